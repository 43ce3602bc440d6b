"""What a process has after rounds of work; ``python -m benchmarks.soak`` is the long form."""

import numpy as np
import pytest

from benchmarks.soak import MEASURES, one_round, rises, soak


@pytest.mark.timeout(300)
def test_nothing_grows(tmp_path):
    found = soak(tmp_path, 15)
    assert len(found) >= 10
    # The first rounds fill pools and caches, which a few rounds do not tell from a leak of memory.
    for name, values in list(zip(MEASURES, zip(*found, strict=True), strict=True))[1:]:
        assert not rises(name, values)[1], (name, values)
    assert found[-1][3] == 0


def test_what_grows_is_found():
    rng = np.random.default_rng(0)
    flat = 300 + rng.normal(size=100)
    assert not rises("memory, MiB", flat)[1]
    assert rises("memory, MiB", flat + 0.5 * np.arange(100))[1]
    assert rises("file descriptors", np.arange(100) // 10)[1]
    assert not rises("threads", [3, 5, 4, *[8, 9] * 20])[1]


def test_a_round_that_counts_something_else_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("tensorstate.storage.LayerStates.histogram", lambda *_, **__: None)
    with pytest.raises(AssertionError):
        one_round(tmp_path, 0)
