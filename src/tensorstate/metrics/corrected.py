"""Estimates that correct the plug-in one for the size of the sample, state by state.

Grassberger's, the jackknife and the first part of Chao, Wang and Jost's replace ``log(N / c)`` in
``H = sum of c / N * log(N / c)`` by something a little larger for small c. Only what they add is
computed here, so that no digit is lost where it is small.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray

from tensorstate.metrics.plugin import plugin
from tensorstate.metrics.special import log_minus_digamma, log_ratio
from tensorstate.metrics.spectrum import Spectrum

__all__ = ["grassberger", "jackknife", "miller_madow", "no_value", "sum_of_logs", "unbiased"]

F64Array = NDArray[np.float64]

# From a warning to the caller of an `entropy`: past this module, the estimator, the table of
# estimators, `entropy_of_spectrum` and `entropy`.
_CALLER = 6

# What the jackknife adds is a power series in 1 / c, which so many terms exhaust from here on.
_SERIES_FROM = 12
_SERIES_TERMS = 14


def miller_madow(spectrum: Spectrum) -> float:
    """Plug-in entropy plus the first term of its bias, ``(distinct - 1) / (2 N)`` nats.

    Parameters
    ----------
    spectrum : Spectrum

    Returns
    -------
    float
        Shannon entropy in bits.

    References
    ----------
    G. A. Miller, "Note on the bias of information estimates", in H. Quastler (ed.), Information
    Theory in Psychology, Free Press (1955) 95-100. The number of states that can occur is taken
    to be that of the states seen, as usual; with more of them it would be larger.

    Examples
    --------
    >>> round(miller_madow(Spectrum((1, 2), (2, 1), total=4, distinct=3)), 6)
    1.860674
    """
    return plugin(spectrum) + (spectrum.distinct - 1) / (2 * spectrum.total * math.log(2))


def grassberger(spectrum: Spectrum) -> float:
    r"""Grassberger's estimate, whose bias falls exponentially with the rows of a state.

    .. math::

        H = \ln N - \frac{1}{N} \sum_i n_i G_{n_i}, \qquad
        G_n = \psi(n) + \frac{(-1)^n}{2}
            \left[ \psi\left(\frac{n + 1}{2}\right) - \psi\left(\frac{n}{2}\right) \right]
            = \ln 2 + \psi\left(\lfloor n / 2 \rfloor + \tfrac{1}{2}\right)

    Parameters
    ----------
    spectrum : Spectrum

    Returns
    -------
    float
        Shannon entropy in bits; a little below 0 for some samples of one or two states.

    References
    ----------
    P. Grassberger, "Entropy estimates from insufficient samplings", arXiv physics/0307138 (2003);
    the last form of G_n follows from its recurrence there.

    Examples
    --------
    >>> round(grassberger(Spectrum((1, 2), (2, 1), total=4, distinct=3)), 6)
    2.390051
    """
    counts = np.array(spectrum.times_seen, np.int64)
    middle = counts // 2 + 0.5
    return sum_of_logs(spectrum, np.log(counts / (2 * middle)) + log_minus_digamma(middle))


def jackknife(spectrum: Spectrum) -> float:
    r"""Jackknife of the plug-in entropy: each row is left out once.

    .. math::

        H = N H_N - \frac{N - 1}{N} \sum_{j = 1}^{N} H_{-j}

    Rows of states with the same count give the same :math:`H_{-j}`, so that the spectrum is
    enough; and as the large terms cancel, what is left for a count of n is
    :math:`\ln(N / n) + r(n) - r(N)`, where :math:`r(n) = 1 + (n - 1) \ln(1 - 1 / n)`.

    Parameters
    ----------
    spectrum : Spectrum

    Returns
    -------
    float
        Shannon entropy in bits.

    References
    ----------
    S. Zahl, "Jackknifing an index of diversity", Ecology 58 (1977) 907-913.

    Examples
    --------
    >>> round(jackknife(Spectrum((1, 2), (2, 1), total=4, distinct=3)), 6)
    2.245112
    """
    added = _left_out(np.array(spectrum.times_seen, np.float64))
    return sum_of_logs(spectrum, added - _left_out(np.array([spectrum.total], np.float64)))


def unbiased(spectrum: Spectrum, order: int) -> float:
    r"""Renyi entropy of a whole order, from the unbiased estimate of its power sum.

    .. math::

        H_a = \frac{1}{1 - a} \log_2 \sum_i \frac{n_i (n_i - 1) \cdots (n_i - a + 1)}
                                                  {N (N - 1) \cdots (N - a + 1)}

    The sum has the expectation :math:`\sum_i p_i^a` exactly, and as its logarithm is taken, the
    entropy has a small bias left. For order 2 the sum is the share of coinciding pairs of rows,
    Simpson's index.

    Parameters
    ----------
    spectrum : Spectrum
    order : int
        At least 2.

    Returns
    -------
    float
        Bits. NaN, with a warning, if no state was seen `order` times: the estimate of the power
        sum is then 0, and has no logarithm.

    References
    ----------
    J. Acharya, A. Orlitsky, A. T. Suresh and H. Tyagi, "Estimating Renyi entropy of discrete
    distributions", IEEE Transactions on Information Theory 63 (2017) 38-56; for
    order 2, E. H. Simpson, "Measurement of diversity", Nature 163 (1949) 688.

    Examples
    --------
    >>> round(unbiased(Spectrum((1, 3), (1, 1), total=4, distinct=2), 2), 12)
    1.0
    """
    coinciding = sum(n * math.perm(c, order) for c, n in spectrum)
    if coinciding == 0:
        return no_value(
            f"no state was seen {order} times, so the unbiased entropy of order {order} has no "
            "value: capture more instances"
        )
    return log_ratio(math.perm(spectrum.total, order), coinciding) / math.log(2) / (order - 1)


def no_value(why: str) -> float:
    """Return NaN, and warn of it where an `entropy` function was called."""
    warnings.warn(why, RuntimeWarning, stacklevel=_CALLER)
    return math.nan


def sum_of_logs(spectrum: Spectrum, added: F64Array) -> float:
    """Sum of ``c / N * (log(N / c) + added)`` over the states, in bits.

    Parameters
    ----------
    spectrum : Spectrum
    added : ndarray of float64, shape (n,)
        In nats, for each count of the spectrum.
    """
    total = spectrum.total
    terms = (
        (n * c / total) * (log_ratio(total, c) + more)
        for (c, n), more in zip(spectrum, added.tolist(), strict=True)
    )
    return math.fsum(terms) / math.log(2)


def _left_out(counts: F64Array) -> F64Array:
    """Return ``1 + (n - 1) * log(1 - 1 / n)`` for each count n."""
    # For 1 the logarithm is infinite, and its factor 0: any finite one will do.
    near = 1 + (counts - 1) * np.log1p(-1 / np.maximum(counts, 2))
    inverse = 1 / np.maximum(counts, _SERIES_FROM)
    powers = [inverse**k / (k * (k + 1)) for k in range(_SERIES_TERMS, 0, -1)]
    return np.where(counts < _SERIES_FROM, near, np.sum(powers, axis=0))
