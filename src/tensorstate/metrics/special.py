"""Gamma functions and differences of their logarithms, which lose no digits to large arguments.

Counts run to billions, and numbers of possible states beyond what a double holds: a difference of
two large logarithms would be left with few digits or none, so that each difference that the
estimators need has a series of its own.

Formulas: M. Abramowitz and I. Stegun (eds.), "Handbook of Mathematical Functions", National Bureau
of Standards (1964), chapter 6: recurrences 6.1.15, 6.3.5 and 6.4.6; asymptotic series 6.1.41,
6.3.18 and 6.4.12.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["log_excess", "log_minus_digamma", "log_ratio", "loggamma", "trigamma_excess"]

F64Array = NDArray[np.float64]

# From here on the asymptotic series give all digits of a double; smaller arguments are brought
# here by recurrence.
_FAR = 12

# Bernoulli numbers B2, B4, ..., B14.
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)

# What (x - 1/2) (log(x) - 1) lacks in Stirling's formula.
_LOG_CONSTANT = (math.log(2 * math.pi) - 1) / 2

# Below this u, (1 + u) log(1 + u) - u is the sum of so many terms of its series.
_SMALL = 0.05
_SMALL_TERMS = 13


def log_ratio(a: int, b: int) -> float:
    """Natural logarithm of a / b, to the last digits also where the two are nearly equal.

    Parameters
    ----------
    a, b : int
        Positive, of any size.

    Examples
    --------
    >>> log_ratio(10**18 + 1, 10**18)
    1e-18
    """
    if a < b:
        return -log_ratio(b, a)
    if a < 2 * b:
        return math.log1p((a - b) / b)
    return math.log(a) - math.log(b)


def loggamma(x: ArrayLike) -> F64Array:
    """Logarithm of the gamma function, for x > 0.

    Examples
    --------
    >>> loggamma([1.0, 5.0]).round(12).tolist()
    [0.0, 3.178053830348]
    """
    x = np.asarray(x, np.float64)
    near, far = _brought_far(x)
    value = np.asarray((far - 0.5) * (np.log(far) - 1) + _LOG_CONSTANT + _stirling(far))
    value[near] -= np.log(np.prod([x[near] + k for k in range(_FAR)], axis=0))
    return value


def log_excess(x: ArrayLike, steps: ArrayLike, log_x: ArrayLike | None = None) -> F64Array:
    """``log(x (x + 1) ... (x + steps - 1) / x**steps)``, for x > 0.

    Parameters
    ----------
    x : array_like of float
        May be 0 where its logarithm is given, because it is too small for a double.
    steps : array_like of integers
        At least 1.
    log_x : array_like of float, optional
        Logarithm of x.

    Examples
    --------
    >>> log_excess([1.0, 1e15], [4, 1000]).round(12).tolist()
    [3.178053830348, 4.99e-10]
    """
    x, steps = np.asarray(x, np.float64), np.asarray(steps, np.float64)
    near = x < _FAR
    if not near.any():
        return _excess_far(x, steps)
    log_x = np.log(x) if log_x is None else np.asarray(log_x, np.float64)
    low = np.minimum(x, _FAR)
    value = loggamma(low + steps) - loggamma(low + 1) - (steps - 1) * log_x
    if near.all():
        return np.asarray(value)
    return np.asarray(np.where(near, value, _excess_far(np.maximum(x, _FAR), steps)))


def log_minus_digamma(x: ArrayLike) -> F64Array:
    """``log(x) - digamma(x)``, for x > 0: about 1 / (2 x) where x is large.

    Examples
    --------
    >>> log_minus_digamma([1.0, 1e12]).round(14).tolist()
    [0.57721566490153, 5e-13]
    """
    x = np.asarray(x, np.float64)
    near, far = _brought_far(x)
    value = np.asarray(1 / (2 * far) + _even_powers(far, lambda k: 1 / (2 * k)))
    low = x[near]
    value[near] += np.sum([1 / (low + k) for k in range(_FAR)], axis=0) - np.log1p(_FAR / low)
    return value


def trigamma_excess(x: ArrayLike) -> F64Array:
    """``(x + 1) * trigamma(x + 1) - 1``, for x >= 0: about 1 / (2 x) where x is large.

    Examples
    --------
    >>> trigamma_excess([0.0, 1e12]).round(14).tolist()
    [0.64493406684823, 5e-13]
    """
    y = np.asarray(x, np.float64) + 1
    near, far = _brought_far(y)
    value = np.asarray(1 / (2 * far) + _even_powers(far, lambda k: 1.0))
    low = y[near]
    steps = np.sum([1 / (low + k) ** 2 for k in range(_FAR)], axis=0)
    value[near] = low * (steps + (1 + value[near]) / far[near]) - 1
    return value


def _brought_far(x: F64Array) -> tuple[NDArray[np.bool_], F64Array]:
    """Tell which arguments are too small for the series, and add `_FAR` to those."""
    near = x < _FAR
    return near, np.asarray(np.where(near, x + _FAR, x))


def _excess_far(x: F64Array, steps: F64Array) -> F64Array:
    """Stirling's formula for both ends, with what they have in common left out."""
    u = steps / x
    rise = np.log1p(u)
    small = np.minimum(u, _SMALL)
    terms = [(-small) ** k / (k * (k - 1)) for k in range(2, _SMALL_TERMS + 1)]
    curve = np.where(u < _SMALL, np.sum(terms[::-1], axis=0), (1 + u) * rise - u)
    return np.asarray(x * curve - rise / 2 + _stirling(x + steps) - _stirling(x))


def _stirling(x: F64Array) -> F64Array:
    """Return what Stirling's formula leaves out of the logarithm of the gamma function."""
    return x * _even_powers(x, lambda k: 1 / (2 * k * (2 * k - 1)))


def _even_powers(x: F64Array, factor: Callable[[int], float]) -> F64Array:
    """Sum over k of ``factor(k) * B(2 k) / x**(2 k)``."""
    inverse = 1 / x
    squared, value = inverse * inverse, np.zeros_like(x)
    for k in range(len(_BERNOULLI), 0, -1):
        value = (value + factor(k) * _BERNOULLI[k - 1]) * squared
    return np.asarray(value)
