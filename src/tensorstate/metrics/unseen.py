"""Estimates that allow for states which occur but were not seen."""

from __future__ import annotations

import math

import numpy as np

from tensorstate.metrics.corrected import no_value, sum_of_logs
from tensorstate.metrics.special import log_minus_digamma, log_ratio
from tensorstate.metrics.spectrum import Spectrum

__all__ = ["chao_shen", "chao_wang_jost"]

# Step of the trapezoidal rule below, in logarithms: it leaves out some exp(-pi^2 / step), 4e-18.
_STEP = 0.25
# How many e-folds below its largest value the integrand is followed.
_REACH = 42


def chao_shen(spectrum: Spectrum) -> float:
    r"""Chao and Shen's estimate: a sum over the seen states, weighted for the unseen.

    .. math::

        H = -\sum_i \frac{C p_i \ln(C p_i)}{1 - (1 - C p_i)^N}, \qquad
        p_i = \frac{n_i}{N}, \quad C = 1 - \frac{f_1}{N}

    where C is the Good-Turing coverage and :math:`f_1` the number of singletons. Each state is
    weighted by the inverse of its chance to be seen (Horvitz and Thompson).

    Parameters
    ----------
    spectrum : Spectrum

    Returns
    -------
    float
        Shannon entropy in bits. NaN, with a warning, if every state was seen only once: the
        coverage is then 0, and the estimate grows beyond all bounds. (Some programs take one
        singleton less in this case, which gives a number that says nothing but N.)

    References
    ----------
    A. Chao and T.-J. Shen, "Nonparametric estimation of Shannon's index of diversity when there
    are unseen species in sample", Environmental and Ecological Statistics 10 (2003) 429-443.

    Examples
    --------
    >>> round(chao_shen(Spectrum((1, 2), (2, 1), total=4, distinct=3)), 6)
    2.543818
    """
    total = spectrum.total
    covered = total - spectrum.seen(1)
    if covered == 0:
        return no_value(
            f"each of the {total} rows is a state of its own, so the coverage is 0 and the "
            "Chao-Shen entropy has no value: capture more instances, or take 'nsb' or "
            "'chao_wang_jost'"
        )

    def term(count: int) -> float:
        """Return what a state contributes, in nats; its share is ``share / whole``."""
        share, whole = covered * count, total * total
        if share == whole:
            return 0.0
        missed = math.exp(-total * log_ratio(whole, whole - share))
        return share / whole * log_ratio(whole, share) / (1 - missed)

    return math.fsum(n * term(c) for c, n in spectrum) / math.log(2)


def chao_wang_jost(spectrum: Spectrum) -> float:
    r"""Chao, Wang and Jost's estimate, from the rate at which new states are discovered.

    .. math::

        H = \sum_i \frac{n_i}{N} \left( \sum_{k = n_i}^{N - 1} \frac{1}{k} \right) +
            \frac{f_1}{N} (1 - A)^{1 - N}
            \left( -\ln A - \sum_{r = 1}^{N - 1} \frac{(1 - A)^r}{r} \right)

    with :math:`A = 2 f_2 / ((N - 1) f_1 + 2 f_2)`, or :math:`2 / ((N - 1)(f_1 - 1) + 2)` if no
    state was seen twice; :math:`f_1` and :math:`f_2` are the numbers of singletons and doubletons.
    The first sum, which is also Zhang's estimate, is what the seen states say without bias of
    the first N - 1 terms of the entropy's series; the second estimates the others.

    Parameters
    ----------
    spectrum : Spectrum

    Returns
    -------
    float
        Shannon entropy in bits.

    References
    ----------
    A. Chao, Y. T. Wang and L. Jost, "Entropy and the species accumulation curve: a novel entropy
    estimator via discovery rates of new species", Methods in Ecology and Evolution 4 (2013)
    1091-1100. Z. Zhang, "Entropy estimation in Turing's perspective", Neural
    Computation 24 (2012) 1368-1389.

    Examples
    --------
    >>> round(chao_wang_jost(Spectrum((1, 2), (2, 1), total=4, distinct=3)), 6)
    2.290221
    """
    total, singletons, doubletons = spectrum.total, spectrum.seen(1), spectrum.seen(2)
    # The sum of 1 / k from n to N - 1 is digamma(N) - digamma(n).
    added = log_minus_digamma(np.array(spectrum.times_seen)) - log_minus_digamma(total)
    seen = sum_of_logs(spectrum, added)
    twice = doubletons or 1
    once = singletons if doubletons else singletons - 1
    if singletons == 0 or once == 0:
        return seen  # A is 1, or there is nothing that it weighs
    # -log(1 - A), without the digits that 1 - A would lose
    rate = log_ratio((total - 1) * once + 2 * twice, (total - 1) * once)
    return seen + singletons / total * _remainder(rate, total) / math.log(2)


def _remainder(rate: float, total: int) -> float:
    r"""Sum over j >= 1 of ``exp(-rate * j) / (total - 1 + j)``.

    That is the second part of `chao_wang_jost`, whose difference of two nearly equal numbers is
    the tail of a series. As an integral it is

    .. math::

        \int_0^\infty \frac{e^{-N s}}{e^{rate} - e^{-s}} \, ds

    which the trapezoidal rule in log(s) gives to all digits (L. N. Trefethen and J. A. C.
    Weideman, "The exponentially convergent trapezoidal rule", SIAM Review 56 (2014) 385-458).
    """
    # The integrand times s rises like s / rate until rate, and falls like exp(-N s) from 1 / N.
    first, last = math.log(min(rate, 1 / total)) - _REACH, math.log(_REACH / total)
    s = np.exp(np.arange(first, last + _STEP, _STEP))
    terms = s * np.exp(-total * s) / (math.expm1(rate) - np.expm1(-s))
    return _STEP * math.fsum(terms.tolist())
