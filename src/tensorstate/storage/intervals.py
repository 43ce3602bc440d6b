"""Intervals by resampling: instances are dealt into groups, which are then left out or drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_GROUPS", "check_confidence", "deal", "edges", "jackknife_error", "normal_interval"]

MOST_GROUPS = 100
"""Instances are resampled in so many groups; the standard error is then good to about 7 %."""


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless this is how often an interval can be right."""
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence is above 0 and below 1, not {confidence}")


def edges(count: int, groups: int) -> NDArray[np.int64]:
    """Return where each of so many groups of about the same size begins, and the last ends."""
    return count * np.arange(groups + 1) // groups


def deal(
    numbers: NDArray[np.int64], span: int, groups: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Deal instances at random into groups of about the same size.

    Parameters
    ----------
    numbers : ndarray of int64, shape (n,)
        The instances, each once.
    span : int
        More than any of their numbers.
    groups : int
        How many groups, at most n.
    rng : numpy.random.Generator
        What draws.

    Returns
    -------
    ndarray of int64, shape (span,)
        The group of each instance, from 0 on; 0 where there is none.
    """
    dealt = np.zeros(span, np.int64)
    sizes = np.diff(edges(len(numbers), groups))
    dealt[rng.permutation(numbers)] = np.repeat(np.arange(groups), sizes)
    return dealt


def jackknife_error(estimates: Sequence[float]) -> float:
    """Return the standard error from estimates that each leave one group out.

    References
    ----------
    B. Efron and C. Stein, "The jackknife estimate of variance", Annals of Statistics 9 (1981)
    586-596. P. S. Kott, "The delete-a-group jackknife", Journal of Official Statistics 17 (2001)
    521-526.

    Examples
    --------
    >>> jackknife_error([1.0, 3.0])
    1.0
    """
    return math.sqrt((len(estimates) - 1) * np.var(estimates))


def normal_interval(
    estimate: float, error: float, confidence: float, least: float, most: float
) -> tuple[float, float]:
    """Return a normal interval around an estimate, cut off where the truth cannot be.

    An estimate that lies beyond these bounds itself stays in its interval.

    Examples
    --------
    >>> low, high = normal_interval(1.0, 0.1, 0.95, 0.0, 1.1)
    >>> round(low, 3), high
    (0.804, 1.1)
    """
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return max(estimate - half, min(least, estimate)), min(estimate + half, max(most, estimate))
