"""How far a sample supports what is estimated from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate.metrics.plugin import plugin
from tensorstate.metrics.spectrum import Spectrum
from tensorstate.metrics.unseen import chao_wang_jost

__all__ = ["SampleSupport", "coverage_of_spectrum", "sample_support"]

# An entropy within so many bits of log2(rows) has fewer than two rows for each of the 2**entropy
# equally frequent states that it stands for: it measures the sample.
_BITS_TO_CEILING = 1.0
# A share of the entropy that is missing, above which a layer is flagged.
_MISSING = 0.01


@dataclass(frozen=True)
class SampleSupport:
    """What a sample says of itself.

    Attributes
    ----------
    rows : int
        States recorded, repeats included.
    distinct : int
        Distinct states.
    singletons, doubletons : int
        States that were seen once, and twice.
    coverage : float
        Good-Turing estimate of the share of all occurrences that the seen states account for, 0
        to 1: one less the chance that the next row is a new state.
    distinct_at_least : float
        Chao1: a lower bound of the number of states that occur, seen or not.
    ceiling : float
        The most that a plug-in efficiency can be with so many rows: log2(rows) / neurons, 0 to 1.
    flag : str
        Empty, or in which way the sample limits the plug-in entropy.
    """

    rows: int
    distinct: int
    singletons: int
    doubletons: int
    coverage: float
    distinct_at_least: float
    ceiling: float
    flag: str


def sample_support(
    times_seen: NDArray[np.integer[Any]], number_of_states: NDArray[np.integer[Any]], neurons: int
) -> SampleSupport:
    r"""Tell how far a sample supports the plug-in entropy and efficiency.

    .. math::

        coverage = 1 - \frac{f_1}{N}, \qquad
        distinct\_at\_least = D + \frac{N - 1}{N} \frac{f_1^2}{2 f_2}

    where N is the number of rows, D of distinct states, :math:`f_1` of singletons and :math:`f_2`
    of doubletons; without doubletons the last fraction is :math:`f_1 (f_1 - 1) / 2`. The bound is
    cut off at the number of possible states, 2**neurons.

    The flag begins with one of two words, or is empty:

    - "ceiling": the plug-in entropy is within a bit of log2(rows), which it cannot exceed. More
      rows would raise it, whatever the layer is like.
    - "unseen": Chao, Wang and Jost's estimate, which allows for states that were not seen, is
      more than 1 % higher; it says by how much the plug-in entropy is too low.

    All of this takes rows to be independent. Those of one instance resemble each other, so that
    a layer with many positions is supported less than it seems.

    Parameters
    ----------
    times_seen : ndarray of integers, shape (n,)
        The counts that occur, positive.
    number_of_states : ndarray of integers, shape (n,)
        How many states have that count.
    neurons : int
        Neurons in a state.

    Returns
    -------
    SampleSupport

    Raises
    ------
    ValueError
        If there is no state, or more than 2**neurons.

    References
    ----------
    Coverage: as for `coverage_of_spectrum`. Bound: A. Chao, "Nonparametric estimation of the
    number of classes in a population", Scandinavian Journal of Statistics 11 (1984) 265-270, with
    the factor (N - 1) / N of A. Chao and C.-H. Chiu, "Species richness: estimation and
    comparison", Wiley StatsRef (2016). What is missing: A. Chao, Y. T. Wang and L. Jost, Methods
    in Ecology and Evolution 4 (2013) 1091-1100.

    Examples
    --------
    >>> support = sample_support(np.array([1, 2, 40]), np.array([6, 2, 3]), neurons=8)
    >>> support.rows, support.distinct, support.singletons
    (130, 11, 6)
    >>> round(support.coverage, 3), round(support.distinct_at_least, 1), round(support.ceiling, 3)
    (0.954, 19.9, 0.878)
    >>> support.flag
    'unseen states: entropy about 5.2 % too low'
    """
    counted = Spectrum.of(times_seen, number_of_states)
    counted.check_possible(2**neurons)
    total, once, twice = counted.total, counted.seen(1), counted.seen(2)
    return SampleSupport(
        rows=total,
        distinct=counted.distinct,
        singletons=once,
        doubletons=twice,
        coverage=counted.coverage,
        distinct_at_least=float(min(counted.distinct + _unseen(counted), 2**neurons)),
        ceiling=min(1.0, math.log2(total) / neurons),
        flag=_flag(counted),
    )


def coverage_of_spectrum(
    times_seen: NDArray[np.integer[Any]], number_of_states: NDArray[np.integer[Any]]
) -> float:
    """Good-Turing coverage: the share of all occurrences that the seen states account for.

    ``1 - f1 / N``, with the number of states that were seen once, and of rows.

    Parameters
    ----------
    times_seen, number_of_states : ndarray of integers, shape (n,)
        As for `sample_support`.

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    ValueError
        If there is no state.

    References
    ----------
    I. J. Good, "The population frequencies of species and the estimation of population
    parameters", Biometrika 40 (1953) 237-264.

    Examples
    --------
    >>> coverage_of_spectrum(np.array([1, 3]), np.array([2, 6]))
    0.9
    """
    return Spectrum.of(times_seen, number_of_states).coverage


def _unseen(counted: Spectrum) -> float:
    """Chao's lower bound of the number of states that occur and were not seen."""
    once, twice = counted.seen(1), counted.seen(2)
    pairs = once * once / (2 * twice) if twice else once * (once - 1) / 2
    return (counted.total - 1) / counted.total * pairs


def _flag(counted: Spectrum) -> str:
    """Return in which way the sample limits the plug-in entropy, or an empty text."""
    entropy, most = plugin(counted), math.log2(counted.total)
    if entropy > most - _BITS_TO_CEILING:
        return f"ceiling: entropy cannot exceed log2(states) = {most:.1f} bits"
    missing = chao_wang_jost(counted) - entropy
    if missing > _MISSING * entropy:
        return f"unseen states: entropy about {100 * missing / (entropy + missing):.2g} % too low"
    return ""
