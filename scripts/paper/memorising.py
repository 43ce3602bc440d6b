"""The fourth claim: networks that were trained with random labels."""

from __future__ import annotations

import pandas as pd

from scripts.paper.effects import (
    Effect,
    Interval,
    chosen,
    over_seeds,
    plain,
    rank_correlations,
    told,
)
from scripts.paper.finding import ESTIMATORS, Finding, titles
from scripts.paper.table import networks_of

__all__ = ["best_does_not_memorise", "memorisers"]


def best_does_not_memorise(table: pd.DataFrame) -> Finding:
    """Claim 4: networks of a high and of a low aIQ that were trained with random labels."""
    effects: list[Effect] = []
    notes: list[str] = []
    percent = int(table["random_labels"].max())
    for architecture, title in titles(table):
        true, randomised = memorisers(table, architecture, percent)
        if true.empty or percent == 0:
            notes.append(f"{title}: the table has no network with random labels.")
            continue
        by_network = randomised.set_index(["seed", "widths"])
        accurate = _at(by_network, chosen(true, "test_accuracy"))
        for estimator, suffix in ESTIMATORS.items():
            best = _at(by_network, chosen(true, f"aIQ{suffix}"))
            ranks = rank_correlations(true, randomised, f"aIQ{suffix}", "memorised")
            gap = best - accurate
            where = f"at {percent} % random labels"
            effects += [
                Effect(
                    title,
                    f"points of test accuracy {where}, highest aIQ less most accurate",
                    estimator,
                    over_seeds(gap["test_accuracy"]),
                    0.0,
                    is_above=True,
                ),
                Effect(
                    title,
                    f"points of wrong labels memorised {where}, highest aIQ less most accurate",
                    estimator,
                    over_seeds(gap["memorised"]),
                    0.0,
                    is_above=False,
                ),
                Effect(
                    title,
                    "rank correlation of aIQ with the wrong labels memorised",
                    estimator,
                    _correlation(ranks),
                    0.0,
                    is_above=False,
                    unit="number",
                ),
            ]
            notes.append(
                f"{title}, {estimator}: the network with the highest aIQ has a test accuracy of "
                f"{_percent(best['test_accuracy'])} {where} and memorises "
                f"{_percent(best['memorised'])} of the wrong labels; the most accurate one "
                f"{_percent(accurate['test_accuracy'])} and {_percent(accurate['memorised'])}."
            )
        size = _correlation(rank_correlations(true, randomised, "parameters", "memorised"))
        notes.append(
            f"{title}: the rank correlation of the number of parameters with the wrong labels "
            f"memorised is {told(size, 'number')}, over "
            f"{true['widths'].nunique()} networks."
        )
    return Finding(
        "Networks with a high aIQ resist memorising random labels",
        "A network with a high aIQ is 92.51 % accurate with 75 % random labels.",
        "Of the networks that were tried with random labels, the one with the highest aIQ has a "
        "higher test accuracy at the highest share of these than the one that is the most accurate "
        "with true labels, and memorises less of the wrong labels; and over all of them a higher "
        "aIQ goes with less memorised. aIQ is that with true labels.",
        effects,
        notes,
    )


def memorisers(
    table: pd.DataFrame, architecture: str, percent: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the networks that were trained with random labels too: with true, and with these."""
    networks = plain(networks_of(table))
    networks = networks[networks["architecture"] == architecture]
    randomised = networks[networks["random_labels"] == percent]
    true = networks[networks["random_labels"] == 0]
    pairs = set(zip(randomised["seed"], randomised["widths"], strict=True))
    is_there = [pair in pairs for pair in zip(true["seed"], true["widths"], strict=True)]
    return true[is_there], randomised


def _at(by_network: pd.DataFrame, networks: pd.DataFrame) -> pd.DataFrame:
    """Return what the same networks, one a seed, came to with random labels."""
    keys = pd.MultiIndex.from_arrays([networks.index, networks["widths"]])
    found = by_network.loc[keys, ["test_accuracy", "memorised"]]
    return found.droplevel("widths")


def _percent(shares: pd.Series) -> str:
    found = over_seeds(shares)
    return f"{100 * found.mean:.1f} %"


def _correlation(values: list[float]) -> Interval:
    """Return the mean over seeds, with an interval that ends where correlations do."""
    mean, low, high, seeds = over_seeds(values)
    return Interval(mean, max(low, -1.0), min(high, 1.0), seeds)
