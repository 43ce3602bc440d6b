"""What single neurons do, from how often they fire."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["firing_entropy", "multi_information", "neuron_table"]


def firing_entropy(fired: NDArray[np.int64], states: int) -> NDArray[np.float64]:
    r"""Shannon entropy of each neuron alone, in bits, from observed frequencies.

    .. math::

        h(p) = -p \log_2 p - (1 - p) \log_2 (1 - p)

    Parameters
    ----------
    fired : ndarray of int64, shape (neurons,)
        In how many states each neuron fires.
    states : int
        How many states there are, at least one.

    Returns
    -------
    ndarray of float64, shape (neurons,)
        0 to 1 bits.

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", Bell System Technical Journal 27
    (1948) 379-423, section 6.

    Examples
    --------
    >>> firing_entropy(np.array([0, 2, 4]), 4).tolist()
    [0.0, 1.0, 0.0]
    """
    rates = np.stack([fired, states - fired]) / states
    # The logarithm of what is nearly 1 has its digits in what is missing.
    near_one = rates > 0.5
    logs = np.log(rates, out=np.zeros_like(rates), where=(rates > 0) & ~near_one)
    np.log1p(-rates[::-1], out=logs, where=near_one)
    entropies: NDArray[np.float64] = np.abs((rates * logs).sum(axis=0)) / math.log(2)
    return entropies


def neuron_table(fired: NDArray[np.int64], states: int) -> pd.DataFrame:
    """Lay the numbers of neurons side by side.

    Parameters
    ----------
    fired, states
        As for `firing_entropy`.

    Returns
    -------
    pandas.DataFrame
        A row for each `neuron`, from 0 on, with the columns `fired` (in how many states), `rate`
        (in which share of them, 0 to 1), `entropy` (bits, 0 to 1), `dead` (it never fires) and
        `always_on` (it fires in every state).

    Examples
    --------
    >>> neuron_table(np.array([0, 2]), 4)["rate"].tolist()
    [0.0, 0.5]
    """
    return pd.DataFrame(
        {
            "fired": fired,
            "rate": fired / states,
            "entropy": firing_entropy(fired, states),
            "dead": fired == 0,
            "always_on": fired == states,
        },
        index=pd.RangeIndex(len(fired), name="neuron"),
    )


def multi_information(fired: NDArray[np.int64], states: int, entropy: float) -> float:
    """Multi-information, or total correlation: what neurons tell about each other, in bits.

    The sum of the entropies of all neurons alone, less the entropy of the states: 0 if the neurons
    are independent of each other. An entropy of states that a sample is too small for is too low,
    and this then too high.

    Parameters
    ----------
    fired, states
        As for `firing_entropy`.
    entropy : float
        Shannon entropy of the states, in bits.

    Returns
    -------
    float
        In bits; at least 0 for the plug-in entropy of the same states.

    References
    ----------
    S. Watanabe, "Information theoretical analysis of multivariate correlation", IBM Journal of
    Research and Development 4 (1960) 66-82.

    Examples
    --------
    >>> multi_information(np.array([2, 2]), 4, entropy=1.0)  # two neurons that are always equal
    1.0
    """
    return math.fsum(firing_entropy(fired, states)) - entropy
