import pytest

from tests.counting.limits import make_tiny


@pytest.fixture
def tiny(monkeypatch):
    """Let the memory limit count for the rows alone, so that a few rows are too many."""
    make_tiny(monkeypatch)
