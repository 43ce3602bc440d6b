"""Entries of several histograms, against dictionaries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.counting import StateHistogram, count_states, joint
from tests.strategies import reproducible, seeds


@st.composite
def several(draw):
    """Histograms of states of one width, some in files."""
    width = draw(st.sampled_from([1, 3, 8, 12, 16, 20]))
    rng = np.random.default_rng(draw(seeds))
    pool = rng.integers(0, 256, (draw(st.integers(1, 60)), width), dtype=np.uint8)
    histograms = []
    for _ in range(draw(st.integers(1, 4))):
        rows = pool[rng.integers(0, len(pool), draw(st.integers(0, 100)))]
        histogram = count_states(rows)
        if draw(st.booleans()) and histogram.distinct:
            store = {}
            histogram.save(store)
            histogram = StateHistogram.load(store, memory_limit=10)
        histograms.append(histogram)
    return histograms


def by_hand(histograms):
    found = {}
    for owner, histogram in enumerate(histograms):
        keys = np.asarray(histogram.keys)
        keys = keys if keys.ndim == 2 else keys[:, None]
        for key, count in zip(keys.tolist(), np.asarray(histogram.counts).tolist(), strict=True):
            found.setdefault(tuple(key), {})[owner] = count
    return sorted(sorted(counts.items()) for counts in found.values())


def walked(histograms, length):
    found = []
    for states, owners, counts in joint.joint_entries(histograms, length):
        assert (np.diff(owners) >= 0).all()
        of_state = [[] for _ in range(states.max() + 1)]
        for state, owner, count in zip(
            states.tolist(), owners.tolist(), counts.tolist(), strict=True
        ):
            of_state[state].append((owner, count))
        found += map(sorted, of_state)
    return sorted(found)


@reproducible
@given(histograms=several(), length=st.integers(1, 50))
def test_each_state_comes_once_with_all_its_entries(histograms, length):
    assert walked(histograms, length) == by_hand(histograms)


def test_states_whose_hashes_are_equal(monkeypatch):
    # Two words may have the same mixed hash: as if all had one of three.
    monkeypatch.setattr(joint, "mixed_hash", lambda keys: np.minimum(keys[:, 0], np.uint64(2)))
    keys = np.array([[0, 1], [0, 2], [1, 1], [2, 0], [2, 3], [5, 0], [5, 1]], np.uint64)

    class InOrder:
        width = 16

        def __init__(self, chosen):
            self._keys = keys[chosen]

        def _canonical_chunks(self, length):
            for start in range(0, len(self._keys), length):
                some = self._keys[start : start + length]
                yield some, np.ones(len(some), np.int64), np.zeros(len(some), np.int64)

    histograms = [InOrder([0, 2, 3, 5]), InOrder([1, 2, 4, 6]), InOrder([0, 1, 3, 4, 5, 6])]
    for length in (1, 2, 3, 10):
        found = walked(histograms, length)
        assert len(found) == len(keys)
        assert sum(map(len, found)) == 14


@pytest.mark.parametrize("scheduler", ["one", "many"])
def test_little_of_a_histogram_in_files_is_in_memory_at_once(scheduler):
    rows = np.random.default_rng(0).integers(0, 256, (50_000, 8), dtype=np.uint8)
    store = {}
    count_states(rows).save(store)
    stored = StateHistogram.load(store, memory_limit=10)
    pieces = [stored] if scheduler == "one" else [stored, count_states(rows[:10])]
    sizes = [len(some.counts) for some in joint.joint_entries(pieces, 1000)]
    assert sum(sizes) == stored.distinct + 10 * (len(pieces) - 1)
    assert max(sizes) <= 2100
