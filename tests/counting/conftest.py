import numpy as np
import pytest

from tests.counting.limits import make_tiny


@pytest.fixture
def tiny(monkeypatch):
    """Let the memory limit count for the rows alone, so that a few rows are too many."""
    make_tiny(monkeypatch)


@pytest.fixture(scope="module")
def rows():
    """Rows of 12 bytes, a fifth of them in states that come back."""
    rng = np.random.default_rng(12)
    rows = rng.integers(0, 256, (30_000, 12), dtype=np.uint8)
    rows[rng.random(len(rows)) < 0.2] = rows[0]
    return rows
