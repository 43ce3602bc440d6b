"""The plug-in estimate: entropy of the observed frequencies."""

from __future__ import annotations

import math

from tensorstate.metrics.spectrum import Spectrum

__all__ = ["plugin"]

# Closer to order 1 than this, log(sum p^alpha) loses its digits in the division by 1 - alpha,
# and is taken from sum p^alpha - 1 instead.
_NEAR_ONE = 0.5


def plugin(spectrum: Spectrum, alpha: float = 1) -> float:
    """Renyi entropy of the observed frequencies ``p = c / total``, in bits.

    Too low on average where states are many and rows are few: it cannot exceed log2 of either.

    Parameters
    ----------
    spectrum : Spectrum
    alpha : float
        Order, 0 to infinity.

    References
    ----------
    A. Renyi, "On measures of entropy and information", Proc. 4th Berkeley Symposium on
    Mathematical Statistics and Probability 1 (1961) 547-561.

    Examples
    --------
    >>> plugin(Spectrum((1, 2), (2, 1), total=4, distinct=3))
    1.5
    """
    total = spectrum.total
    top = max(spectrum.times_seen)
    if alpha == 0:
        return math.log2(spectrum.distinct)
    if math.isinf(alpha):
        return math.log2(total / top)
    # Logarithms of N / n_i, not of p_i: every term is then positive, and nothing cancels.
    if alpha == 1:
        return math.fsum((n * c / total) * math.log2(total / c) for c, n in spectrum)
    if abs(alpha - 1) < _NEAR_ONE:
        terms = (
            (n * c / total) * math.expm1((1 - alpha) * math.log(total / c)) for c, n in spectrum
        )
        return max(0.0, math.log1p(math.fsum(terms)) / math.log(2) / (1 - alpha))
    # Taken relative to the commonest state, so that no power under- or overflows to nothing.
    terms = (n * (c / top) ** alpha for c, n in spectrum)
    log_sum = math.log2(math.fsum(terms)) - alpha * math.log2(total / top)
    return max(0.0, log_sum / (1 - alpha))
