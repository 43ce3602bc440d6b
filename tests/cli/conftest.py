from functools import partial

import pytest

from tests.cli import programs


@pytest.fixture
def here(monkeypatch, capfd):
    """Run the command in this process."""
    return partial(programs.here, monkeypatch, capfd)
