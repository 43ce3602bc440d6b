"""Entropies of counted states.

Everything is computed from the spectrum (how many states were seen exactly c times): it is small
even for a billion states, so that every sum can be an exact one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ESTIMATORS", "check_entropy_options", "entropy", "entropy_of_spectrum", "spectrum"]

ESTIMATORS = ("plugin",)

# Closer to order 1 than this, log(sum p^alpha) loses its digits in the division by 1 - alpha,
# and is taken from sum p^alpha - 1 instead.
_NEAR_ONE = 0.5


def spectrum(counts: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many states were seen exactly c times, for each c that occurs.

    Parameters
    ----------
    counts : array_like of integers, shape (states,)
        How often each state was seen. States with a count of 0 are left out.

    Returns
    -------
    times_seen : ndarray of int64, shape (n,)
        The counts that occur, ascending and positive.
    number_of_states : ndarray of int64, shape (n,)
        How many states have that count.

    Raises
    ------
    TypeError
        If the counts are not whole numbers.
    ValueError
        If they are not one-dimensional, or one is negative.

    Examples
    --------
    >>> times_seen, number_of_states = spectrum([3, 1, 1, 0])
    >>> times_seen.tolist(), number_of_states.tolist()
    ([1, 3], [2, 1])
    """
    counts = np.asarray(counts)
    if counts.size == 0:
        counts = counts.astype(np.int64)
    if counts.dtype.kind not in "iu":
        raise TypeError(f"counts are whole numbers, not {counts.dtype}")
    if counts.ndim != 1:
        raise ValueError(f"counts have one axis, not the shape {counts.shape}")
    times_seen, number_of_states = np.unique(counts, return_counts=True)
    if times_seen.size and times_seen[0] < 0:
        raise ValueError(f"a count is never negative, but one is {times_seen[0]}")
    seen = times_seen > 0
    return times_seen[seen].astype(np.int64), number_of_states[seen].astype(np.int64)


def entropy(counts: ArrayLike, alpha: float = 1, estimator: str = "plugin") -> float:
    r"""Renyi entropy of counted states, in bits.

    .. math::

        H_\alpha = \frac{1}{1 - \alpha} \log_2 \sum_i p_i^\alpha, \qquad
        H_1 = -\sum_i p_i \log_2 p_i, \qquad H_\infty = -\log_2 \max_i p_i

    Parameters
    ----------
    counts : array_like of integers, shape (states,)
        How often each state was seen; zeros count for nothing.
    alpha : float, default 1
        The Renyi order, 0 to infinity. 0: log2 of the number of states (Hartley entropy);
        1: Shannon entropy; 2: collision entropy; infinity: min-entropy.
    estimator : {"plugin"}
        How the probabilities are estimated. "plugin" takes the observed frequencies,
        p_i = n_i / N.

    Returns
    -------
    float
        Entropy in bits, at least 0.

    Raises
    ------
    TypeError
        If the counts are not whole numbers.
    ValueError
        If nothing was counted, a count is negative, the order is negative or NaN, or the
        estimator is unknown.

    References
    ----------
    A. Renyi, "On measures of entropy and information", Proc. 4th Berkeley Symposium on
    Mathematical Statistics and Probability 1 (1961) 547-561.

    Examples
    --------
    >>> entropy([1, 1, 1, 1])
    2.0
    >>> entropy([2, 1, 1], alpha=float("inf"))
    1.0
    """
    return entropy_of_spectrum(*spectrum(counts), alpha=alpha, estimator=estimator)


def entropy_of_spectrum(
    times_seen: NDArray[np.integer[Any]],
    number_of_states: NDArray[np.integer[Any]],
    alpha: float = 1,
    estimator: str = "plugin",
) -> float:
    """Renyi entropy in bits, from a spectrum.

    Parameters
    ----------
    times_seen : ndarray of integers, shape (n,)
        The counts that occur, positive.
    number_of_states : ndarray of integers, shape (n,)
        How many states have that count.
    alpha, estimator
        As for `entropy`, with the same formulas and errors.

    Returns
    -------
    float
        Entropy in bits, at least 0.

    Examples
    --------
    >>> round(entropy_of_spectrum(np.array([1]), np.array([10**9])), 12)
    29.897352853986
    """
    check_entropy_options(alpha, estimator)
    seen = [int(c) for c in times_seen]
    states = [int(n) for n in number_of_states]
    total = sum(c * n for c, n in zip(seen, states, strict=True))
    if total == 0:
        raise ValueError("no state was counted, so there is no entropy")
    if alpha == 0:
        return math.log2(sum(states))
    if math.isinf(alpha):
        return math.log2(total / max(seen))
    # Logarithms of N / n_i, not of p_i: every term is then positive, and nothing cancels.
    if alpha == 1:
        terms = ((n * c / total) * math.log2(total / c) for c, n in zip(seen, states, strict=True))
        return math.fsum(terms)
    if abs(alpha - 1) < _NEAR_ONE:
        terms = (
            (n * c / total) * math.expm1((1 - alpha) * math.log(total / c))
            for c, n in zip(seen, states, strict=True)
        )
        return max(0.0, math.log1p(math.fsum(terms)) / math.log(2) / (1 - alpha))
    # Taken relative to the commonest state, so that no power under- or overflows to nothing.
    top = max(seen)
    terms = (n * (c / top) ** alpha for c, n in zip(seen, states, strict=True))
    log_sum = math.log2(math.fsum(terms)) - alpha * math.log2(total / top)
    return max(0.0, log_sum / (1 - alpha))


def check_entropy_options(alpha: float | None, estimator: str) -> None:
    """Raise what is wrong with an order or an estimator, before anything is counted.

    Parameters
    ----------
    alpha : float or None
        A Renyi order; None stands for the maximum entropy and is always right.
    estimator : str
        The name of an estimator.

    Raises
    ------
    ValueError
        If the order is negative or NaN, or the estimator is unknown.
    """
    if alpha is not None and not alpha >= 0:
        raise ValueError(f"a Renyi order is a number from 0 to infinity, not {alpha}")
    if estimator not in ESTIMATORS:
        raise ValueError(f"unknown estimator {estimator!r}: choose one of {', '.join(ESTIMATORS)}")
