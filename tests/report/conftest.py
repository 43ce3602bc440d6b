import pytest

from tests.report.browser import chromium
from tests.report.runs import recorded


# Ended with the module: Playwright keeps an event loop in this thread, which others may need.
@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run of two layers with labels."""
    path = tmp_path_factory.mktemp("run") / "small.zarr"
    layers = {"conv_1_states": (16, 10), "dense_states": (1, 7)}
    return recorded(path, layers, labels=["cat", "dog", "cow"] * 20)
