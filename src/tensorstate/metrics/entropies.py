"""Entropies of counted states, with a choice of estimators.

Everything is computed from the spectrum (how many states were seen exactly c times): it is small
even for a billion states, so that every sum can be an exact one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate.metrics.corrected import grassberger, jackknife, miller_madow, unbiased
from tensorstate.metrics.nsb import nsb
from tensorstate.metrics.plugin import plugin
from tensorstate.metrics.spectrum import Spectrum, spectrum
from tensorstate.metrics.unseen import chao_shen, chao_wang_jost

__all__ = ["ESTIMATORS", "check_entropy_options", "entropy", "entropy_of_spectrum"]


# The unbiased estimate multiplies as many exact integers as its order has units.
_LARGEST_WHOLE = 1000


@dataclass(frozen=True)
class Estimator:
    """A way to estimate an entropy.

    Attributes
    ----------
    estimate : callable
        Called with a spectrum, an order and the number of possible states or None; returns bits.
    orders : str
        The orders that it has, in words.
    has_order : callable
        Tells whether an order is one of them.
    needs_states : bool
        Whether it depends on the number of possible states.
    """

    estimate: Callable[[Spectrum, float, int | None], float]
    orders: str
    has_order: Callable[[float], bool]
    needs_states: bool = False


def _of_shannon(estimate: Callable[[Spectrum], float]) -> Estimator:
    return Estimator(
        lambda spectrum, _alpha, _states: estimate(spectrum), "order 1", lambda alpha: alpha == 1
    )


def _nsb_mean(spectrum: Spectrum, _alpha: float, states: int | None) -> float:
    assert states is not None  # `entropy_of_spectrum` has seen to it
    return nsb(spectrum, states).mean


ESTIMATORS = {
    "plugin": Estimator(
        lambda spectrum, alpha, _states: plugin(spectrum, alpha), "every order", lambda alpha: True
    ),
    "miller_madow": _of_shannon(miller_madow),
    "grassberger": _of_shannon(grassberger),
    "chao_shen": _of_shannon(chao_shen),
    "chao_wang_jost": _of_shannon(chao_wang_jost),
    "nsb": Estimator(_nsb_mean, "order 1", lambda alpha: alpha == 1, needs_states=True),
    "jackknife": _of_shannon(jackknife),
    "unbiased": Estimator(
        lambda spectrum, alpha, _states: unbiased(spectrum, int(alpha)),
        f"the whole orders from 2 to {_LARGEST_WHOLE}",
        lambda alpha: 2 <= alpha <= _LARGEST_WHOLE and float(alpha).is_integer(),
    ),
}


def entropy(
    counts: ArrayLike, alpha: float = 1, estimator: str = "plugin", states: int | None = None
) -> float:
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
    estimator : str, default "plugin"
        How the entropy of the distribution that the states were drawn from is estimated:

        - "plugin": from the observed frequencies, p_i = n_i / N; every order. Too low on average.
        - "miller_madow": plug-in plus the first term of its bias; order 1.
        - "grassberger": Grassberger's of 2003, with G_n in place of log n; order 1.
        - "chao_shen": by coverage, for unseen states; order 1.
        - "chao_wang_jost": from the rate at which new states are discovered; order 1.
        - "nsb": Bayesian, of Nemenman, Shafee and Bialek; order 1; needs `states`. The mean:
          `nsb_entropy` gives the deviation as well.
        - "jackknife": of the plug-in entropy; order 1.
        - "unbiased": from the unbiased estimate of the power sum; whole orders from 2 to 1000.

        All but "plugin" and "nsb" may give somewhat more than log2 of the possible states, or
        less than 0: what they give is not cut off there. Formulas and sources stand with the
        functions of these names in `tensorstate.metrics.corrected` and `.unseen`, and in
        `tensorstate.metrics.nsb`.
    states : int, optional
        Number of possible states: ``2**neurons`` for a layer.

    Returns
    -------
    float
        Entropy in bits. NaN, with a warning that says why, where an estimate has no value:
        "chao_shen" if every state was seen once, "unbiased" if none was seen `alpha` times.

    Raises
    ------
    TypeError
        If the counts or the number of states are not whole numbers.
    ValueError
        If nothing was counted, a count is negative, the order is negative, NaN or one that the
        estimator does not have, the estimator is unknown or needs the number of possible states,
        or more states were seen than there can be.

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
    >>> round(entropy([4, 2, 3, 2, 4, 2], estimator="nsb", states=2**5), 3)
    2.956
    """
    return entropy_of_spectrum(*spectrum(counts), alpha, estimator, states)


def entropy_of_spectrum(
    times_seen: NDArray[np.integer[Any]],
    number_of_states: NDArray[np.integer[Any]],
    alpha: float = 1,
    estimator: str = "plugin",
    states: int | None = None,
) -> float:
    """Renyi entropy in bits, from a spectrum.

    Parameters
    ----------
    times_seen : ndarray of integers, shape (n,)
        The counts that occur, positive.
    number_of_states : ndarray of integers, shape (n,)
        How many states have that count.
    alpha, estimator, states
        As for `entropy`, with the same formulas and errors.

    Returns
    -------
    float
        Entropy in bits.

    Examples
    --------
    >>> round(entropy_of_spectrum(np.array([1]), np.array([10**9])), 12)
    29.897352853986
    """
    check_entropy_options(alpha, estimator)
    counted = Spectrum.of(times_seen, number_of_states)
    chosen = ESTIMATORS[estimator]
    if states is not None:
        counted.check_possible(states)
    elif chosen.needs_states:
        raise ValueError(
            f"the estimator {estimator!r} depends on the number of possible states: "
            "pass states=2**neurons"
        )
    return chosen.estimate(counted, alpha, None if states is None else int(states))


def check_entropy_options(alpha: float | None, estimator: str) -> None:
    """Raise what is wrong with an order or an estimator, before anything is counted.

    Parameters
    ----------
    alpha : float or None
        A Renyi order; None stands for the maximum entropy, which nothing estimates.
    estimator : str
        The name of an estimator.

    Raises
    ------
    ValueError
        If the order is negative or NaN, the estimator is unknown, or it does not have the order.
    """
    if alpha is not None and not alpha >= 0:
        raise ValueError(f"a Renyi order is a number from 0 to infinity, not {alpha}")
    if estimator not in ESTIMATORS:
        raise ValueError(f"unknown estimator {estimator!r}: choose one of {', '.join(ESTIMATORS)}")
    chosen = ESTIMATORS[estimator]
    if alpha is not None and not chosen.has_order(alpha):
        raise ValueError(
            f"the estimator {estimator!r} has {chosen.orders} and not order {alpha}: "
            "choose another, such as 'plugin', which has every order"
        )
