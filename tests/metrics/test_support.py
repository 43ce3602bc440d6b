"""What a sample says of itself, against published values and other packages."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.metrics import entropy, sample_support, spectrum
from tests.metrics import peers
from tests.metrics.peers import GIRDLED, LOGGED
from tests.strategies import reproducible

samples = st.lists(st.integers(0, 30), min_size=1, max_size=40).filter(any)


def support_of(counts, neurons=30):
    return sample_support(*spectrum(counts), neurons)


@pytest.mark.parametrize(("counts", "chao1"), [(GIRDLED, 43.893), (LOGGED, 61.403)])
def test_bounds_that_inext_publishes(counts, chao1):
    assert support_of(counts).distinct_at_least == pytest.approx(chao1, abs=5e-4)


def test_other_packages_agree():
    for counts, found in zip(peers.samples(), peers.answers(), strict=True):
        support = support_of(counts)
        assert (support.rows, support.distinct) == (sum(counts), sum(c > 0 for c in counts))
        assert support.singletons == found["singletons"]
        assert support.doubletons == found["doubletons"]
        assert support.coverage == pytest.approx(found["coverage"], rel=1e-14)
        # Theirs leaves the factor (N - 1) / N out, and for no doubletons is another.
        if support.doubletons:
            unseen = (found["chao1"] - support.distinct) * (support.rows - 1) / support.rows
            expected = support.distinct + unseen
            assert support.distinct_at_least == pytest.approx(expected, rel=1e-12)


@reproducible
@given(counts=samples, neurons=st.integers(6, 40))
def test_bounds_of_everything(counts, neurons):
    support = support_of(counts, neurons)
    assert support.distinct <= support.distinct_at_least <= 2**neurons
    assert 0 <= support.coverage <= 1
    assert entropy(counts) / neurons <= support.ceiling + 1e-12
    assert support.ceiling <= 1
    assert not (support.coverage == 0 and not support.flag)


def test_no_more_states_than_there_can_be():
    """A hundred singletons would speak of five thousand states."""
    assert support_of([1] * 100).distinct_at_least == pytest.approx(100 + 0.99 * 4950)
    assert support_of([1] * 100, neurons=7).distinct_at_least == 128
    assert math.isfinite(support_of([1] * 100, neurons=5000).distinct_at_least)
    with pytest.raises(ValueError, match="cannot be only 64"):
        support_of([1] * 100, neurons=6)


@pytest.mark.parametrize(
    ("counts", "flag"),
    [
        ([1], "ceiling: entropy cannot exceed log2(states) = 0.0 bits"),
        ([1] * 8, "ceiling: entropy cannot exceed log2(states) = 3.0 bits"),
        ([2] * 7 + [1] * 2, "ceiling: entropy cannot exceed log2(states) = 4.0 bits"),
        ([3] * 8, "unseen states: entropy about 6.9 % too low"),
        ([1000] * 8, ""),
        ([1000], ""),
    ],
)
def test_flags(counts, flag):
    assert support_of(counts).flag == flag


def test_what_a_flag_says_is_what_is_missing():
    """Of 4,096 equally frequent states, 20,000 rows leave some unseen; many more do not."""
    rng = np.random.default_rng(7)
    few, many = (np.bincount(rng.integers(0, 4096, rows)) for rows in (20_000, 500_000))
    missing = 100 * (12 - entropy(few)) / 12
    said = float(support_of(few, 12).flag.split("about ")[1].split(" %")[0])
    assert said == pytest.approx(missing, rel=0.1)
    assert support_of(many, 12).flag == ""
