"""What fewer rows would have shown: expected numbers of states and entropies of subsamples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tensorstate.metrics.special import log_excess
from tensorstate.metrics.spectrum import Spectrum, spectrum

__all__ = ["rarefaction", "rarefaction_of_spectrum"]

F64Array = NDArray[np.float64]

# How far from its mean a hypergeometric distribution is followed: what is left is below 1e-20.
_DEVIATIONS, _AT_LEAST = 10, 40


def rarefaction(counts: ArrayLike, rows: ArrayLike) -> pd.DataFrame:
    r"""Distinct states and plug-in entropy that fewer rows show on average.

    Rows are drawn without replacement. With C(a, b) for binomial coefficients,

    .. math::

        E[D_m] = \sum_i \left( 1 - \frac{C(N - n_i, m)}{C(N, m)} \right), \qquad
        E[H_m] = \sum_i \sum_k \frac{C(n_i, k) C(N - n_i, m - k)}{C(N, m)}
                 \frac{k}{m} \log_2 \frac{m}{k}

    A curve that still rises at its end says that more rows would show more. These means need no
    random numbers, and depend on the spectrum alone: rows are taken to be independent. Those of
    one instance are not, and `LayerStates.rarefaction` draws whole instances instead.

    Parameters
    ----------
    counts : array_like of integers, shape (states,)
        How often each state was seen; zeros count for nothing.
    rows : int or array_like of integers, shape (sizes,)
        Sizes m of the smaller samples, from 1 to all N rows.

    Returns
    -------
    pandas.DataFrame
        A row for each size, named `rows`, with the columns `distinct` (states) and `entropy`
        (bits).

    Raises
    ------
    TypeError
        If the counts or the sizes are not whole numbers.
    ValueError
        If nothing was counted, a count is negative, or a size is not within 1 to N.

    References
    ----------
    S. H. Hurlbert, "The nonconcept of species diversity: a critique and alternative parameters",
    Ecology 52 (1971) 577-586; for the entropy, A. Chao, N. J. Gotelli, T. C. Hsieh, E. L. Sander,
    K. H. Ma, R. K. Colwell and A. M. Ellison, "Rarefaction and extrapolation with Hill numbers",
    Ecological Monographs 84 (2014) 45-67.

    Examples
    --------
    >>> found = rarefaction([8, 4, 2, 1, 1], rows=[1, 8, 16])
    >>> found.round(4)  # doctest: +NORMALIZE_WHITESPACE
          distinct  entropy
    rows
    1       1.0000   0.0000
    8       3.7281   1.6243
    16      5.0000   1.8750
    """
    return rarefaction_of_spectrum(*spectrum(counts), rows)


def rarefaction_of_spectrum(
    times_seen: NDArray[np.integer[Any]],
    number_of_states: NDArray[np.integer[Any]],
    rows: ArrayLike,
) -> pd.DataFrame:
    """Distinct states and entropy that fewer rows show, from a spectrum.

    Parameters
    ----------
    times_seen : ndarray of integers, shape (n,)
        The counts that occur, positive.
    number_of_states : ndarray of integers, shape (n,)
        How many states have that count.
    rows
        As for `rarefaction`, with the same result and errors.

    Returns
    -------
    pandas.DataFrame

    Examples
    --------
    >>> found = rarefaction_of_spectrum(np.array([1]), np.array([10**9]), 1024)
    >>> found  # doctest: +NORMALIZE_WHITESPACE
          distinct  entropy
    rows
    1024    1024.0     10.0
    """
    counted = Spectrum.of(times_seen, number_of_states)
    sizes = np.atleast_1d(np.asarray(rows))
    if sizes.dtype.kind not in "iu":
        raise TypeError(f"numbers of rows are whole numbers, not {sizes.dtype}")
    for size in sizes.tolist():
        if not 1 <= size <= counted.total:
            raise ValueError(
                f"a smaller sample has 1 to {counted.total} rows, as many as were counted, "
                f"not {size}"
            )
    return pd.DataFrame(
        {
            "distinct": [_distinct(counted, size) for size in sizes.tolist()],
            "entropy": [_entropy(counted, size) for size in sizes.tolist()],
        },
        index=pd.Index(sizes, name="rows"),
    )


def _distinct(counted: Spectrum, size: int) -> float:
    """Return the number of distinct states that so many rows have on average."""
    counts, states = np.array([*counted], np.int64).T
    # States of which more rows are there than are left out are seen for certain.
    missable = counts <= counted.total - size
    counts = counts[missable]
    # The chance to be missed, C(N - n, m) / C(N, m), is the same with n and m exchanged: it is a
    # quotient of two rising factorials, of as many factors as the smaller of them has units.
    factors, other = np.minimum(counts, size), np.maximum(counts, size)
    above, below = counted.total - counts - size + 1, counted.total - factors + 1
    log_missed = factors * np.log1p(-other / below)
    log_missed += log_excess(above, factors) - log_excess(below, factors)
    seen = np.ones(len(states))
    seen[missable] = -np.expm1(log_missed)
    return math.fsum((seen * states).tolist())


def _entropy(counted: Spectrum, size: int) -> float:
    """Return the plug-in entropy that so many rows have on average, in bits."""
    terms = []
    for count, states in counted:
        times, chances = _times_drawn(counted.total, count, size)
        shares = times / size
        terms.append(states * float(chances @ (shares * -np.log2(np.where(times, shares, 1)))))
    return math.fsum(terms)


def _times_drawn(total: int, count: int, size: int) -> tuple[F64Array, F64Array]:
    """How often a state with this count is among so many rows, and how likely that is."""
    share = count / total
    mean = size * share
    reach = _AT_LEAST + _DEVIATIONS * math.sqrt(mean * (1 - share))
    first = max(0, count + size - total, math.floor(mean - reach))
    last = min(count, size, math.ceil(mean + reach))
    times = np.arange(first, last + 1, dtype=np.float64)
    # Each chance from the one before; multiplied up as logarithms, relative to the largest.
    before = times[:-1]
    rest = (total - count - size) + before + 1
    ratios = (count - before) * (size - before) / ((before + 1) * rest)
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    chances = np.exp(logs - logs.max())
    return times, chances / chances.sum()
