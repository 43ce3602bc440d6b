r"""The Bayesian estimate of Nemenman, Shafee and Bialek.

A Dirichlet prior with one concentration :math:`\beta` for all K possible states says almost surely
what the entropy is, before any data. The estimate mixes these priors so that the entropy which
they expect, :math:`\xi(\beta) = \psi(K \beta + 1) - \psi(\beta + 1)`, is uniform from 0 to ln K:

.. math::

    \langle H \rangle = \frac{\int H(\beta) \rho(\beta) \xi'(\beta) d\beta}
                             {\int \rho(\beta) \xi'(\beta) d\beta}, \qquad
    \rho(\beta) = \frac{\Gamma(K \beta)}{\Gamma(N + K \beta)}
                  \prod_i \frac{\Gamma(n_i + \beta)}{\Gamma(\beta)}

where :math:`H(\beta)` is the mean of the entropy in the posterior of one :math:`\beta`.

Everything is written in :math:`y = \ln(K \beta)`, as K = 2**512 and more are usual here, and the
integrals are trapezoidal sums over y, which converge exponentially for such integrands.

References
----------
I. Nemenman, F. Shafee and W. Bialek, "Entropy and inference, revisited", Advances in Neural
Information Processing Systems 14 (2002) 471-478. I. Nemenman, W. Bialek and R. de Ruyter van
Steveninck, "Entropy and information in neural spike trains: progress on the sampling problem",
Physical Review E 69 (2004) 056111.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate.metrics.special import log_excess, log_minus_digamma, trigamma_excess
from tensorstate.metrics.spectrum import Spectrum, spectrum

__all__ = ["EntropyEstimate", "nsb", "nsb_entropy"]

F64Array = NDArray[np.float64]

# Where the posterior is this many e-folds below its highest value, it is 0 to all digits.
_REACH = 45.0
# Beyond this ln(K beta), whatever depends on it has reached its limit.
_LARGEST_LOG = 300.0
# Points at a time of the search for the peak, and of the first trapezoidal sum.
_POINTS = 24
_MOST_ZOOMS = 20
# Doubling the points ends when mean and deviation change by less than this share of the deviation.
# As each doubling squares the error, what is left of it is far smaller.
_CHANGE = 1e-7
_MOST_POINTS = 2**16
# Entries of an array at a time: points times spectrum.
_ENTRIES = 2**18


class EntropyEstimate(NamedTuple):
    """An estimated Shannon entropy.

    Attributes
    ----------
    mean : float
        Bits.
    deviation : float
        Standard deviation of the entropy about its mean, given the counts, in bits.
    """

    mean: float
    deviation: float


def nsb_entropy(counts: ArrayLike, states: int) -> EntropyEstimate:
    """Shannon entropy of Nemenman, Shafee and Bialek, with its posterior standard deviation.

    The numerical error is some 1e-7 of the deviation, and at worst 1e-3 of it for ten billion rows.

    Parameters
    ----------
    counts : array_like of integers, shape (states,)
        How often each state was seen; zeros count for nothing.
    states : int
        Number of possible states, K: ``2**neurons`` for a layer.

    Returns
    -------
    EntropyEstimate
        Mean and standard deviation, in bits. The deviation takes rows to be independent; those
        of one instance are not.

    Raises
    ------
    TypeError
        If the counts or the number of states are not whole numbers.
    ValueError
        If nothing was counted, a count is negative, or more states were seen than there can be.

    References
    ----------
    See `tensorstate.metrics.nsb`. For the deviation, D. H. Wolpert and D. R. Wolf, "Estimating
    functions of probability distributions from a finite set of samples", Physical Review E 52
    (1995) 6841-6854.

    Examples
    --------
    >>> mean, deviation = nsb_entropy([4, 2, 3, 2, 4, 2], states=9)
    >>> round(mean, 6), round(deviation, 6)
    (2.799761, 0.225095)
    """
    counted = Spectrum.of(*spectrum(counts))
    counted.check_possible(states)
    return nsb(counted, int(states))


def nsb(spectrum: Spectrum, states: int) -> EntropyEstimate:
    """Return what `nsb_entropy` does, from a spectrum and at least as many states as it has."""
    if states == 1:
        return EntropyEstimate(0.0, 0.0)
    posterior = _Posterior(spectrum, states)
    mean, deviation = _integrate(posterior, *_support(posterior.log_weight, *posterior.range))
    return EntropyEstimate(mean / math.log(2), deviation / math.log(2))


class _Posterior:
    """What the counts say about ``y = ln(K beta)``, and of the entropy for each y; in nats."""

    def __init__(self, spectrum: Spectrum, states: int) -> None:
        self._counts = np.array(spectrum.times_seen, np.float64)
        self._states = np.array(spectrum.number_of_states, np.float64)
        self._total = spectrum.total
        self._log_possible = math.log(states)
        # Both quotients of integers, so that K may be larger than any double.
        self._unseen = (states - spectrum.distinct) / states
        # Below, the weight rises like a power of K beta; above, it falls like its inverse, at
        # the latest from where there is more prior than data.
        highest = self._log_possible + 2 * math.log(spectrum.total) + _REACH
        self.range = (-_REACH, highest)

    def log_weight(self, y: F64Array) -> F64Array:
        """Logarithm of the density of y, but for a constant; shape (points,)."""
        return _in_blocks(self._log_weight, y, len(self._counts))

    def moments(self, y: F64Array) -> tuple[F64Array, F64Array]:
        """Mean and variance of the entropy for each y, each (points,)."""
        both = _in_blocks(self._moments, y, len(self._counts))
        return both[..., 0], both[..., 1]

    def _concentrations(self, y: F64Array) -> tuple[F64Array, F64Array, F64Array]:
        """Return K beta, beta and its logarithm."""
        log_beta = y - self._log_possible
        return np.exp(np.minimum(y, _LARGEST_LOG)), np.exp(log_beta), log_beta

    def _log_weight(self, y: F64Array) -> F64Array:
        k_beta, beta, log_beta = self._concentrations(y)
        seen = log_excess(beta[:, None], self._counts, log_beta[:, None])
        # That of a state which was seen once is 0, and must not become billions of roundings.
        seen = np.where(self._counts == 1, 0, seen) @ self._states
        return seen - log_excess(k_beta, self._total, y) + np.log(_prior(k_beta, beta))

    def _moments(self, y: F64Array) -> F64Array:
        """Return mean and variance of the entropy of a Dirichlet distribution, for each y.

        Its parameters are a = n + beta, of the sum A. Wolpert and Wolf's second moment less the
        squared mean is (sum of a e^2 + v(a), - v(A)) / (A (A + 1)), where e is how far a state's
        contribution is from the mean, and v(x) = x ((x + 1) trigamma(x + 1) - 1): in this form
        nothing large cancels.
        """
        k_beta, beta, _ = self._concentrations(y)
        total = self._total + k_beta
        unseen = k_beta * self._unseen
        seen = self._counts + beta[:, None]
        # What a state contributes is its share times digamma(total + 1) - digamma(own + 1).
        rest = (self._total - self._counts) + (k_beta - beta)[:, None]
        end = log_minus_digamma(total + 1)
        gaps = np.log1p(rest / (seen + 1)) + log_minus_digamma(seen + 1) - end[:, None]
        log_total = np.logaddexp(math.log(self._total + 1), y)
        gap = log_total - np.log1p(beta) + log_minus_digamma(beta + 1) - end
        mean = ((seen * gaps) @ self._states + unseen * gap) / total
        spread = (seen * (gaps - mean[:, None]) ** 2) @ self._states + unseen * (gap - mean) ** 2
        own = (seen * trigamma_excess(seen)) @ self._states + unseen * trigamma_excess(beta)
        variance = (spread + own - total * trigamma_excess(total)) / total / (total + 1)
        return np.stack([mean, np.maximum(variance, 0)], axis=-1)


def _prior(k_beta: F64Array, beta: F64Array) -> F64Array:
    """Density of y before any data, d xi / d y: ``x trigamma(x + 1)`` of K beta less of beta."""
    # For large arguments both are nearly 1, and what is missing from 1 is subtracted instead.
    small, large = trigamma_excess(k_beta), trigamma_excess(beta)
    missing = (1 - beta * large) / (beta + 1) - (1 - k_beta * small) / (k_beta + 1)
    there = k_beta / (k_beta + 1) * (1 + small) - beta / (beta + 1) * (1 + large)
    return np.where(beta > 1, missing, there)


def _support(
    log_weight: Callable[[F64Array], F64Array], low: float, high: float
) -> tuple[float, float]:
    """Find where a density with one peak or plateau is not negligible.

    The likelihood of beta has one peak or none (B. Levin and J. Reeds, "Compound multinomial
    likelihood functions are unimodal", Annals of Statistics 5 (1977) 79-87).
    """
    lowest, highest = low, high
    for _ in range(_MOST_ZOOMS):
        y = np.linspace(low, high, _POINTS + 1)
        heights = log_weight(y)
        top = int(np.argmax(heights))
        around = slice(max(top - 1, 0), top + 2)
        low, high = float(y[around][0]), float(y[around][-1])
        if heights[top] - heights[around].min() < 1:
            break

    def edge(step: float) -> float:
        """Step away from the peak, ever further, until the density is negligible."""
        while True:
            point = float(np.clip(y[top] + step, lowest, highest))
            negligible = log_weight(np.array([point]))[0] < heights[top] - _REACH
            if negligible or point in (lowest, highest):
                return point
            step *= 2

    return edge(low - high), edge(high - low)


def _integrate(posterior: _Posterior, low: float, high: float) -> tuple[float, float]:
    """Mean and standard deviation of the entropy over all y, by trapezoidal sums."""
    y = np.linspace(low, high, _POINTS + 1)
    weights, means, variances = posterior.log_weight(y), *posterior.moments(y)
    # The weights have no digits beyond these.
    change = max(_CHANGE, float(np.spacing(np.abs(weights).max())))
    before = (math.inf, math.inf)
    while True:
        weight = np.exp(weights - weights.max())
        weight /= weight.sum()
        mean = float(weight @ means)
        deviation = math.sqrt(float(weight @ (variances + (means - mean) ** 2)))
        changed = max(abs(mean - before[0]), abs(deviation - before[1]))
        if changed <= change * deviation or len(y) > _MOST_POINTS:
            return mean, deviation
        before = (mean, deviation)
        between = (y[1:] + y[:-1]) / 2
        more = (between, posterior.log_weight(between), *posterior.moments(between))
        y, weights, means, variances = (
            _interleaved(old, new)
            for old, new in zip((y, weights, means, variances), more, strict=True)
        )


def _interleaved(old: F64Array, between: F64Array) -> F64Array:
    both = np.empty(len(old) + len(between))
    both[::2], both[1::2] = old, between
    return both


def _in_blocks(function: Callable[[F64Array], F64Array], y: F64Array, width: int) -> F64Array:
    """Call a function of points with some at a time, so that its arrays stay small."""
    at_once = max(1, _ENTRIES // width)
    starts = range(0, len(y), at_once)
    return np.concatenate([function(y[start : start + at_once]) for start in starts])
