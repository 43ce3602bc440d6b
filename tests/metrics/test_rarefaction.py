"""Expected values of smaller samples, against published ones, fractions, and every subsample."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorstate.metrics import entropy, rarefaction, rarefaction_of_spectrum
from tests.metrics.peers import GIRDLED
from tests.strategies import reproducible


def test_diversities_that_inext_gives():
    """iNEXT 3.0.2 of R, ``iNEXT(spider$Girdled, q = c(0, 1), size = c(1, 10, 50, 100, 167))``."""
    found = rarefaction(GIRDLED, [1, 10, 50, 100, 167, 168])
    states = [1, 6.478617, 15.030098, 20.459426, 25.928571, 26]
    diversities = [1, 5.608968, 9.939329, 11.266546, 12.051422, 12.05965]
    assert found["distinct"].tolist() == pytest.approx(states, abs=1e-6)
    assert (2 ** found["entropy"]).tolist() == pytest.approx(diversities, abs=1e-5)
    assert found.index.tolist() == [1, 10, 50, 100, 167, 168]
    assert found.index.name == "rows"


@settings(reproducible, max_examples=30)
@given(states=st.lists(st.integers(0, 4), min_size=1, max_size=9), size=st.integers(1, 9))
def test_means_of_all_subsamples(states, size):
    size = min(size, len(states))
    drawn = [np.bincount(rows) for rows in combinations(states, size)]
    found = rarefaction(np.bincount(states), size).loc[size]
    distinct = np.mean([(counts > 0).sum() for counts in drawn])
    assert found["distinct"] == pytest.approx(distinct, rel=1e-12)
    mean = math.fsum(entropy(counts) for counts in drawn) / len(drawn)
    assert found["entropy"] == pytest.approx(mean, rel=1e-12, abs=1e-14)


@settings(reproducible, max_examples=30)
@given(
    counts=st.lists(st.integers(1, 120), min_size=1, max_size=6),
    share=st.floats(0, 1),
)
def test_means_in_fractions(counts, share):
    total = sum(counts)
    size = max(1, round(share * total))
    missed = [Fraction(math.comb(total - c, size), math.comb(total, size)) for c in counts]
    found = rarefaction(counts, size).loc[size]
    assert found["distinct"] == pytest.approx(float(len(counts) - sum(missed)), rel=1e-12)
    expected = math.fsum(
        float(Fraction(math.comb(c, k) * math.comb(total - c, size - k), math.comb(total, size)))
        * (k / size)
        * math.log2(size / k)
        for c in counts
        for k in range(1, min(c, size) + 1)
    )
    assert found["entropy"] == pytest.approx(expected, rel=1e-10, abs=1e-13)


def test_all_rows_show_what_was_counted_and_fewer_show_less():
    counts = np.random.default_rng(8).zipf(1.3, 200).clip(max=10**6)
    total = int(counts.sum())
    sizes = np.geomspace(1, total, 12).astype(int)
    found = rarefaction(counts, sizes)
    assert found["distinct"].iloc[-1] == len(counts)
    assert found["entropy"].iloc[-1] == pytest.approx(entropy(counts), rel=1e-12)
    assert (found.diff().iloc[1:] > 0).all(axis=None)
    assert (found["entropy"] <= np.log2(sizes) + 1e-12).all()


def test_billions_of_rows():
    """Half of a billion pairs: three quarters of the states, nearly as drawn independently."""
    found = rarefaction_of_spectrum(np.array([2]), np.array([10**9]), 10**9).loc[10**9]
    missed = Fraction(10**9 * (10**9 - 1), 2 * 10**9 * (2 * 10**9 - 1))
    assert found["distinct"] == pytest.approx(float(10**9 * (1 - missed)), rel=1e-14)
    # As many states are drawn whole as are missed, and the two rows of one have a bit less each.
    expected = math.log2(10**9) - 2 * float(missed)
    assert found["entropy"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        (0, ValueError, "1 to 6 rows, as many as were counted, not 0"),
        ([3, 7], ValueError, "not 7"),
        (2.5, TypeError, "whole numbers, not float64"),
    ],
)
def test_wrong_sizes(rows, error, says):
    with pytest.raises(error, match=says):
        rarefaction([1, 2, 3], rows)
