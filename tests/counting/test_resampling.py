"""Spectra of weighted sums, against repeated rows that are counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.counting import count_states, resampling
from tests.strategies import reproducible, seeds


@reproducible
@given(
    width=st.sampled_from([1, 8, 12, 20]),
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    sums=st.integers(1, 4),
    seed=seeds,
    at_once=st.sampled_from([1, 50, 1 << 20]),
    most=st.sampled_from([1, 3, 1024]),
)
def test_a_sum_is_the_count_of_repeated_rows(width, sizes, sums, seed, at_once, most):
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 256, (20, width), dtype=np.uint8)
    groups = [pool[rng.integers(0, 20, size)] for size in sizes]
    weights = rng.integers(0, 4, (sums, len(groups)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "_ELEMENTS", at_once)
        patch.setattr(resampling, "_BINS", most)
        found = resampling.weighted_spectra([count_states(rows) for rows in groups], weights)
    for (times, states), row in zip(found, weights, strict=True):
        repeated = [rows for rows, weight in zip(groups, row, strict=True) for _ in range(weight)]
        expected = count_states(np.concatenate([pool[:0], *repeated])).spectrum()
        assert (times.tolist(), states.tolist()) == (expected[0].tolist(), expected[1].tolist())
