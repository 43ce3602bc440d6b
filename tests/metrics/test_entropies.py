"""Entropies against sums over probabilities in many digits."""

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorstate.metrics import entropy, entropy_of_spectrum, spectrum

ORDERS = [0, 0.25, 0.5, 0.9, 1 - 1e-9, 1, 1 + 1e-9, 1.3, 2, 3.5, 10, 300, math.inf]

counts_lists = st.lists(st.integers(0, 10**9), min_size=1, max_size=40).filter(any)


def obvious(counts, alpha):
    """Sum over the states, one by one, with fifty digits."""
    with mpmath.workdps(50):
        total = sum(counts)
        p = [mpmath.mpf(c) / total for c in counts if c]
        if alpha == 1:
            return float(-sum(x * mpmath.log(x, 2) for x in p))
        if math.isinf(alpha):
            return float(-mpmath.log(max(p), 2))
        return float(
            mpmath.log(sum(x ** mpmath.mpf(alpha) for x in p), 2) / (1 - mpmath.mpf(alpha))
        )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(counts_lists, st.sampled_from(ORDERS))
def test_entropy_equals_the_sum_in_many_digits(counts, alpha):
    assert entropy(counts, alpha) == pytest.approx(obvious(counts, alpha), abs=1e-12, rel=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(counts_lists)
def test_entropy_falls_with_the_order_and_stays_below_the_number_of_states(counts):
    values = [entropy(counts, alpha) for alpha in ORDERS]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(values))
    assert values[0] == math.log2(sum(c > 0 for c in counts))
    assert values[-1] >= 0


@pytest.mark.parametrize("alpha", ORDERS)
@pytest.mark.parametrize("states", [1, 2, 3, 1000, 10**9, 10**12])
def test_equally_frequent_states_have_log2_of_their_number(alpha, states):
    value = entropy_of_spectrum(np.array([1]), np.array([states]), alpha)
    assert value == pytest.approx(math.log2(states), abs=1e-12)


def test_one_rare_state_among_a_billion_rows():
    p = Fraction(1, 10**9)
    expected = obvious([10**9 - 1, 1], 1)
    assert entropy([10**9 - 1, 1]) == pytest.approx(expected, rel=1e-12)
    assert expected > float(p)


def test_counts_beyond_what_a_double_holds_exactly():
    counts = [2**53 + 1, 2**53 - 1, 3]
    assert entropy(counts) == pytest.approx(obvious(counts, 1), abs=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 50), max_size=60))
def test_spectrum_counts_the_counts(counts):
    times_seen, number_of_states = spectrum(counts)
    assert dict(zip(times_seen.tolist(), number_of_states.tolist(), strict=True)) == {
        c: counts.count(c) for c in set(counts) if c
    }
    assert times_seen.dtype == number_of_states.dtype == np.int64
    assert (np.diff(times_seen) > 0).all()


@pytest.mark.parametrize(
    ("counts", "options", "error", "says"),
    [
        ([], {}, ValueError, "no state was counted"),
        ([0, 0], {}, ValueError, "no state was counted"),
        ([1, -1], {}, ValueError, "never negative"),
        ([0.5, 0.5], {}, TypeError, "whole numbers"),
        ([[1, 2]], {}, ValueError, "one axis"),
        ([1, 2], {"alpha": -1}, ValueError, "Renyi order"),
        ([1, 2], {"alpha": math.nan}, ValueError, "Renyi order"),
        ([1, 2], {"estimator": "magic"}, ValueError, "unknown estimator 'magic': choose one of"),
    ],
)
def test_wrong_use(counts, options, error, says):
    with pytest.raises(error, match=says):
        entropy(counts, **options)
