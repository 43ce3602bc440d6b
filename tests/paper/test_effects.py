"""Effects and their intervals, on numbers whose answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scripts.paper.effects import (
    Effect,
    Interval,
    chosen,
    crossed,
    differences,
    over_seeds,
    rank_correlations,
    slopes,
    true_networks,
)
from tests.paper.made_up import made_up

finite = st.floats(-1e3, 1e3).map(lambda value: round(value, 6))


@given(st.lists(finite, min_size=2, max_size=9).filter(lambda v: np.std(v) > 1e-3))
def test_intervals_are_those_of_students_t_test(values):
    found = over_seeds(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-6, abs=1e-6)


def test_one_seed_has_no_bounds_and_none_no_value():
    assert over_seeds([2.0]) == Interval(2.0, -math.inf, math.inf, 1)
    assert math.isnan(over_seeds([]).mean)
    assert over_seeds([1.0, math.nan, 3.0]).seeds == 2


@pytest.mark.parametrize(
    ("low", "high", "is_above", "verdict"),
    [
        (0.1, 0.2, True, "holds"),
        (0.1, 0.2, False, "does not hold"),
        (-0.2, -0.1, True, "does not hold"),
        (-0.2, -0.1, False, "holds"),
        (-0.1, 0.1, True, "undecided"),
        (-0.1, 0.1, False, "undecided"),
        (0.0, 0.0, True, "undecided"),
    ],
)
def test_a_verdict_needs_the_whole_interval(low, high, is_above, verdict):
    found = Interval((low + high) / 2, low, high, 3)
    assert Effect("a", "b", "plug-in", found, 0.0, is_above).verdict == verdict


def test_one_seed_decides_nothing():
    effect = Effect("a", "b", "plug-in", over_seeds([0.3]), 0.0, is_above=True)
    assert effect.verdict == "undecided"
    assert effect.told == "+30.00 (one seed, no interval)"
    nothing = Effect("a", "b", "plug-in", over_seeds([]), 0.0, is_above=True)
    assert (nothing.verdict, nothing.told) == ("undecided", "no value")


def test_slopes_compare_only_networks_that_differ_in_nothing_else():
    # What the other layer does to this one must not be taken for an effect of its own width.
    def efficiency(experiment, width):
        other = math.log2(math.prod(experiment.widths) / width)
        return 0.8 - 0.02 * math.log2(width) - 0.03 * other

    table = made_up(efficiency)
    table = table[(table["layer"] == "dense_1") & (table["random_labels"] == 0)]
    assert slopes(table, "efficiency") == pytest.approx([-0.02] * 3)
    one_width = table[table["neurons"] == 32]
    assert all(math.isnan(slope) for slope in slopes(one_width, "efficiency"))


def test_crossed_rows_have_the_same_other_widths_for_each_width():
    table = made_up()
    layer = crossed(table[table["layer"] == "dense_1"])
    assert sorted(layer["neurons"].unique()) == [4, 32, 256]
    for _, same in layer.groupby("neurons"):
        assert {widths.split("-")[1] for widths in same["widths"]} == {"4", "32", "256"}


def test_differences_are_of_pairs():
    def efficiency(experiment, width):
        return 0.5 - 0.01 * math.log2(width) + 0.1 * experiment.batch_norm * (experiment.seed + 1)

    networks = true_networks(made_up(efficiency), "lenet_5")
    found = differences(networks, "batch_norm", "network_efficiency")
    pairs = [
        (
            networks[
                (networks["widths"] == row["widths"])
                & (networks["dropout"] == row["dropout"])
                & (networks["seed"] == row["seed"])
                & ~networks["batch_norm"]
            ]["network_efficiency"].item(),
            row,
        )
        for _, row in networks[networks["batch_norm"]].iterrows()
    ]
    for seed, difference in enumerate(found):
        each = [row["network_efficiency"] - base for base, row in pairs if row["seed"] == seed]
        assert difference == pytest.approx(np.mean(each))
    assert not differences(networks[~networks["batch_norm"]], "batch_norm", "aIQ")


def test_of_equally_good_networks_the_smallest_is_chosen():
    networks = pd.DataFrame(
        {
            "seed": [0, 0, 0, 1],
            "aIQ": [0.5, 0.7, 0.7, 0.1],
            "parameters": [1, 30, 20, 5],
        }
    )
    assert chosen(networks, "aIQ")["parameters"].to_dict() == {0: 20, 1: 5}


def test_rank_correlations_are_spearmans():
    rng = np.random.default_rng(0)
    true = pd.DataFrame(
        {"widths": [f"{n}" for n in range(9)] * 2, "seed": [0] * 9 + [1] * 9, "aIQ": rng.random(18)}
    )
    randomised = true[["widths", "seed"]].assign(memorised=rng.random(18).round(1))
    found = rank_correlations(true, randomised, "aIQ", "memorised")
    for seed, correlation in enumerate(found):
        one, other = (each[each["seed"] == seed] for each in (true, randomised))
        expected = stats.spearmanr(one["aIQ"], other["memorised"]).statistic
        assert correlation == pytest.approx(expected)
    same = randomised.assign(memorised=0.5)
    assert all(math.isnan(value) for value in rank_correlations(true, same, "aIQ", "memorised"))
