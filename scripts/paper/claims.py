"""The four claims of the paper, and what the table says of each."""

from __future__ import annotations

import math

import pandas as pd

from scripts.paper.effects import (
    Effect,
    Estimator,
    chosen,
    crossed,
    differences,
    over_seeds,
    plain,
    slopes,
    true_networks,
)
from scripts.paper.finding import ESTIMATORS, Finding, titles
from scripts.paper.memorising import best_does_not_memorise
from scripts.paper.networks import ARCHITECTURES
from tensorstate.metrics import aIQ

__all__ = ["MOST_LOSS", "ORDERS", "findings"]

ORDERS = 2.0
"""How many powers of ten "orders of magnitude" are at least."""

MOST_LOSS = 0.05
"""How much accuracy a "small loss" is at most."""


def findings(table: pd.DataFrame) -> list[Finding]:
    """Return what a table says of the four claims, in the paper's order."""
    return [
        wider_is_less_efficient(table),
        best_is_small(table),
        training_raises_efficiency(table),
        best_does_not_memorise(table),
    ]


def wider_is_less_efficient(table: pd.DataFrame) -> Finding:
    """Claim 1: how efficiency changes with the width of a layer, all else being the same."""
    rows = plain(table)
    rows = rows[rows["random_labels"] == 0]
    effects, notes = [], []
    for (architecture, layer), of_layer in rows.groupby(["architecture", "layer"], sort=False):
        of = f"{ARCHITECTURES[str(architecture)].title} {layer}"
        what = "points of efficiency for each doubling of the width"
        below = of_layer[~of_layer["flag"].str.startswith("ceiling")]
        compared: dict[Estimator, list[float]] = {
            "plug-in": slopes(of_layer, "efficiency"),
            "corrected": slopes(of_layer, "efficiency_corrected"),
            "corrected, below the ceiling": slopes(below, "efficiency_corrected"),
        }
        effects += [
            Effect(of, what, estimator, over_seeds(values), 0.0, is_above=False)
            for estimator, values in compared.items()
        ]
        notes.append(f"{of}: {_from_narrow_to_wide(crossed(of_layer))}")
    return Finding(
        "Efficiency falls as layers get wider",
        "The wider a layer, the lower its efficiency.",
        "The slope of efficiency against the logarithm of the width lies below 0, for each layer, "
        "among networks that differ in nothing else.",
        effects,
        notes,
    )


def best_is_small(table: pd.DataFrame) -> Finding:
    """Claim 2: the network with the highest aIQ beside the one with the highest accuracy."""
    effects, notes = [], []
    for architecture, title in titles(table):
        networks = true_networks(table, architecture)
        accurate = chosen(networks, "test_accuracy")
        for estimator, suffix in ESTIMATORS.items():
            best = chosen(networks, f"aIQ{suffix}")
            fewer = (accurate["parameters"] / best["parameters"]).map(math.log10)
            loss = accurate["test_accuracy"] - best["test_accuracy"]
            effects += [
                Effect(
                    title,
                    "times fewer parameters",
                    estimator,
                    over_seeds(fewer),
                    ORDERS,
                    is_above=True,
                    unit="times",
                ),
                Effect(
                    title,
                    "points of accuracy lost",
                    estimator,
                    over_seeds(loss),
                    MOST_LOSS,
                    is_above=False,
                ),
            ]
            notes.append(
                f"{title}, {estimator}: the highest aIQ has {_named(best)}; the highest accuracy "
                f"has {_named(accurate)}."
            )
        notes.append(f"{title}: {_by_weight(networks)}")
    return Finding(
        "The network with the highest aIQ has far fewer parameters at a small loss of accuracy",
        "LeNet-5 with the highest aIQ has 30,912 times fewer parameters than the most accurate "
        "one, and is 2.32 % less accurate.",
        f"It has at least {10**ORDERS:,.0f} times fewer parameters, and loses at most "
        f"{100 * MOST_LOSS:.0f} points of accuracy on the test digits.",
        effects,
        notes,
    )


def training_raises_efficiency(table: pd.DataFrame) -> Finding:
    """Claim 3: network efficiency with and without batch normalisation and dropout."""
    effects, notes = [], []
    for architecture, title in titles(table):
        networks = true_networks(table, architecture)
        of_layers = table[(table["architecture"] == architecture) & (table["random_labels"] == 0)]
        for factor, name in (("batch_norm", "batch normalisation"), ("dropout", "dropout")):
            for estimator, suffix in ESTIMATORS.items():
                found = over_seeds(differences(networks, factor, f"network_efficiency{suffix}"))
                what = f"points of network efficiency by {name}"
                effects.append(Effect(title, what, estimator, found, 0.0, is_above=True))
            each = [
                f"{layer} {100 * over_seeds(differences(rows, factor, 'efficiency')).mean:+.2f}"
                for layer, rows in of_layers.groupby("layer")
            ]
            notes.append(f"{title}, points by {name} in each layer, plug-in: {', '.join(each)}.")
    return Finding(
        "Batch normalisation and dropout raise efficiency",
        "Both were found to increase neural efficiency.",
        "Network efficiency is higher with each of them than without, in both architectures, among "
        "networks that differ in nothing else.",
        effects,
        notes,
    )


def _from_narrow_to_wide(rows: pd.DataFrame) -> str:
    told = []
    for name, width in (("narrow", rows["neurons"].min()), ("wide", rows["neurons"].max())):
        at = rows[rows["neurons"] == width]
        bits = (at["efficiency"] * at["neurons"]).mean()
        limited = at["flag"].str.startswith("ceiling").mean()
        told.append(
            f"{100 * at['efficiency'].mean():.1f} % ({100 * at['efficiency_corrected'].mean():.1f} "
            f"% corrected, {bits:.2f} bits) at {width} neurons"
            + (f", {100 * limited:.0f} % of them at the ceiling" if name == "wide" else "")
        )
    return " and ".join(told) + "."


def _named(networks: pd.DataFrame) -> str:
    told = []
    for seed, row in networks.iterrows():
        extras = [" with batch normalisation"] * row["batch_norm"] + [" with dropout"] * row[
            "dropout"
        ]
        told.append(f"{row['widths']}{' and'.join(extras)} (seed {seed})")
    return ", ".join(told)


def _by_weight(networks: pd.DataFrame) -> str:
    means = networks.groupby(["widths", "batch_norm", "dropout"])[
        ["network_efficiency", "test_accuracy", "parameters"]
    ].mean()
    told = []
    for weight in (1, 2, 4, 8, 16):
        quotients = [
            aIQ(row["network_efficiency"], row["test_accuracy"], weight)
            for _, row in means.iterrows()
        ]
        best = means.iloc[quotients.index(max(quotients))]
        told.append(
            f"{weight}: {int(best['parameters']):,} parameters, "
            f"{100 * best['test_accuracy']:.1f} % accurate"
        )
    return "the network with the highest aIQ by the weight of accuracy: " + "; ".join(told) + "."
