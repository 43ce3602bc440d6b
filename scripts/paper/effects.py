"""What the table says in numbers: effects, with intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from scripts.paper.table import IDENTITY, networks_of

__all__ = [
    "Effect",
    "Interval",
    "chosen",
    "crossed",
    "differences",
    "over_seeds",
    "plain",
    "rank_correlations",
    "slopes",
    "told",
    "true_networks",
]

CONFIDENCE = 0.95

Unit = Literal["points", "times", "number"]
Verdict = Literal["holds", "does not hold", "undecided"]
Estimator = Literal["plug-in", "corrected", "corrected, below the ceiling"]


class Interval(NamedTuple):
    """Mean of an effect over seeds, and where it lies with a confidence of 95 %."""

    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Effect:
    """One number that a claim is about.

    Attributes
    ----------
    of : str
        Network or layer.
    what : str
        What the number is.
    estimator : str
        Of the efficiencies in it.
    found : Interval
        The number.
    limit : float
        What it is compared with.
    is_above : bool
        Whether the claim says that it lies above the limit; else below.
    unit : {"points", "times", "number"}
        Points of percentage, powers of ten that are told as "times", or a plain number.
    """

    of: str
    what: str
    estimator: Estimator
    found: Interval
    limit: float
    is_above: bool
    unit: Unit = "points"

    @property
    def verdict(self) -> Verdict:
        """Whether the whole interval lies where the claim says, or none of it, or neither."""
        mean, low, high, _ = self.found
        if math.isnan(mean):
            return "undecided"
        if low > self.limit:
            return "holds" if self.is_above else "does not hold"
        if high < self.limit:
            return "does not hold" if self.is_above else "holds"
        return "undecided"

    @property
    def told(self) -> str:
        """The number with its interval, as text."""
        return told(self.found, self.unit)


def told(found: Interval, unit: Unit) -> str:
    """Return a number with its interval, as text.

    Examples
    --------
    >>> told(Interval(2.0, 1.0, 3.0, 3), "times"), told(Interval(0.5, 0.25, 0.75, 3), "points")
    ('100 (10 to 1,000)', '+50.00 (+25.00 to +75.00)')
    """

    def number(value: float) -> str:
        if unit == "times":
            return f"{10**value:,.3g}" if 10**value < 100 else f"{10**value:,.0f}"
        return f"{100 * value:+.2f}" if unit == "points" else f"{value:+.2f}"

    if math.isnan(found.mean):
        return "no value"
    if found.seeds < 2:
        return f"{number(found.mean)} (one seed, no interval)"
    return f"{number(found.mean)} ({number(found.low)} to {number(found.high)})"


def over_seeds(values: Iterable[float]) -> Interval:
    """Return the mean of one value a seed, with the interval of Student's t distribution.

    Parameters
    ----------
    values : iterable of float
        What each seed gave; NaN where it gave nothing.

    Returns
    -------
    Interval
        Without bounds for one seed; NaN for none.

    References
    ----------
    Student, "The probable error of a mean", Biometrika 6 (1908) 1-25.

    Examples
    --------
    >>> [round(number, 2) for number in over_seeds([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48, 3]
    """
    from scipy.stats import t

    known = np.array([value for value in values if not math.isnan(value)])
    if len(known) < 2:
        mean = float(known[0]) if len(known) else math.nan
        return Interval(mean, -math.inf, math.inf, len(known))
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(known) - 1))
    half = quantile * float(known.std(ddof=1)) / math.sqrt(len(known))
    mean = float(known.mean())
    return Interval(mean, mean - half, mean + half, len(known))


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return the networks as they are: without batch normalisation and dropout."""
    return table[~table["batch_norm"] & ~table["dropout"]]


def slopes(layer: pd.DataFrame, value: str) -> list[float]:
    """Return by how much a value changes with each doubling of a layer's width, for each seed.

    Only networks that differ in nothing but the width of this layer are compared: the slope is
    that of least squares within such groups.

    Parameters
    ----------
    layer : pandas.DataFrame
        Rows of one layer of one architecture.
    value : str
        A column.
    """
    rows = layer.assign(doublings=np.log2(layer["neurons"]), others=_others(layer))
    found = []
    for _, of_seed in rows.groupby("seed"):
        groups = of_seed.groupby(["others", "batch_norm", "dropout", "random_labels"])
        x = of_seed["doublings"] - groups["doublings"].transform("mean")
        y = of_seed[value] - groups[value].transform("mean")
        spread = float((x**2).sum())
        found.append(float((x * y).sum()) / spread if spread else math.nan)
    return found


def crossed(layer: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose widths were combined with the most widths of the other layers.

    Means over these compare widths, and not what else differs between networks.

    Parameters
    ----------
    layer : pandas.DataFrame
        Rows of one layer of one architecture.
    """
    combinations = _others(layer).groupby(layer["neurons"]).nunique()
    widths = combinations.index[combinations == combinations.max()]
    return layer[layer["neurons"].isin(widths)]


def differences(networks: pd.DataFrame, factor: str, value: str) -> list[float]:
    """Return by how much a value is higher with a factor than without, for each seed.

    Parameters
    ----------
    networks : pandas.DataFrame
        A row for each network.
    factor : str
        A column of booleans. Networks are paired that differ in nothing else.
    value : str
        A column.
    """
    same = [name for name in IDENTITY if name != factor]
    both = networks.pivot(index=same, columns=factor, values=value).dropna()
    if both.shape[1] < 2:
        return []
    return list((both[True] - both[False]).groupby("seed").mean())


def chosen(networks: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return the network with the highest value of each seed, by seed; of equals the smallest."""
    ordered = networks.sort_values([value, "parameters"], ascending=[False, True], kind="stable")
    return ordered.drop_duplicates("seed").set_index("seed").sort_index()


def rank_correlations(
    true: pd.DataFrame, randomised: pd.DataFrame, one: str, other: str
) -> list[float]:
    """Return Spearman's correlation over networks, for each seed.

    Parameters
    ----------
    true, randomised : pandas.DataFrame
        Networks that were trained with true labels and, the same ones, with random labels.
    one, other : str
        A column of the former and one of the latter.
    """
    keys: Sequence[str] = ["widths", "seed"]
    pairs = true[[*keys, one]].merge(randomised[[*keys, other]], on=keys, suffixes=("", "_random"))
    column = f"{other}_random" if one == other else other
    found = []
    for _, of_seed in pairs.groupby("seed"):
        ranks = of_seed[[one, column]].rank()
        constant = (ranks.nunique() < 2).any()
        found.append(math.nan if constant else float(ranks[one].corr(ranks[column])))
    return found


def true_networks(table: pd.DataFrame, architecture: str) -> pd.DataFrame:
    """Return the networks of an architecture that were trained with true labels."""
    networks = networks_of(table)
    return networks[(networks["architecture"] == architecture) & (networks["random_labels"] == 0)]


def _others(layer: pd.DataFrame) -> pd.Series:
    """Return the widths of all other layers of each row's network, as text."""
    found = [
        "-".join(width for n, width in enumerate(widths.split("-"), 1) if n != number)
        for widths, number in zip(layer["widths"], layer["layer_number"], strict=True)
    ]
    return pd.Series(found, index=layer.index)
