"""What states tell about labels, and how alike the states of two labels are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Overlap", "information", "information_bias"]

I64Array = NDArray[np.int64]


def information(entropy: float, entropies: Sequence[float], totals: Sequence[int]) -> float:
    r"""Mutual information of states and labels, in bits.

    .. math::

        I(S; L) = H(S) - \sum_l \frac{N_l}{N} H(S | l)

    Parameters
    ----------
    entropy : float
        Shannon entropy of all states, in bits.
    entropies : sequence of float
        Shannon entropy of the states of each label, in bits.
    totals : sequence of int
        How many states each label has.

    Returns
    -------
    float
        In bits; for plug-in entropies at least 0, and at most the entropy of the labels.

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", Bell System Technical Journal 27
    (1948) 379-423, section 12.

    Examples
    --------
    >>> information(1.0, [0.0, 0.0], [5, 5])  # each label has a state of its own
    1.0
    """
    number = sum(totals)
    within = math.fsum(h * n / number for h, n in zip(entropies, totals, strict=True))
    return entropy - within


def information_bias(distinct: int, distincts: Sequence[int], states: int) -> float:
    r"""Bias of plug-in mutual information of states and labels, to first order, in bits.

    .. math::

        \frac{\sum_l (D_l - 1) - (D - 1)}{2 N \ln 2}

    It holds where most states were seen often; where most were seen once, the truth may be far
    from the difference.

    Parameters
    ----------
    distinct : int
        Distinct states of all labels, D.
    distincts : sequence of int
        Distinct states of each label.
    states : int
        How many states were seen, N.

    Returns
    -------
    float
        In bits: by so much the plug-in estimate is too high.

    References
    ----------
    S. Panzeri and A. Treves, "Analytical estimates of limited sampling biases in different
    information measures", Network: Computation in Neural Systems 7 (1996) 87-107.

    Examples
    --------
    >>> round(information_bias(4, [4, 4], 100), 4)
    0.0216
    """
    return (sum(d - 1 for d in distincts) - (distinct - 1)) / (2 * states * math.log(2))


class Overlap:
    r"""How alike the states of labels are, added up from the states that they have in common.

    With the shares p and q that a state has of the states of two labels, the shared mass is
    :math:`\sum \min(p, q)`, and the Jensen-Shannon distance the root of

    .. math::

        \frac12 \sum p \log_2 \frac{2p}{p+q} + \frac12 \sum q \log_2 \frac{2q}{p+q}

    Parameters
    ----------
    totals : sequence of int
        How many states each label has, at least one.

    Attributes
    ----------
    shared : (labels, labels) float64
        Shared mass, 0 to 1.
    specific : (labels,) int64
        How many distinct states no other label has.
    specific_mass : (labels,) float64
        Which share these have of the states of the label.

    References
    ----------
    J. Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information
    Theory 37 (1991) 145-151. D. M. Endres and J. E. Schindelin, "A new metric for probability
    distributions", ibid. 49 (2003) 1858-1860.

    Examples
    --------
    >>> overlap = Overlap([4, 2])
    >>> overlap.add(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([2, 2, 2]))
    >>> overlap.shared[0, 1].item(), overlap.distances().round(3)[0, 1].item()
    (0.5, 0.558)
    """

    def __init__(self, totals: Sequence[int]) -> None:
        self._totals = np.asarray(totals, np.int64)
        labels = len(self._totals)
        self.shared = np.eye(labels)
        self.specific = np.zeros(labels, np.int64)
        self.specific_mass = np.zeros(labels)
        # The divergence of labels without a common state is 1; each one that they have lowers it.
        self._divergence = 1.0 - np.eye(labels)

    def add(self, states: I64Array, owners: I64Array, counts: I64Array) -> None:
        """Add states, with all entries that labels have of them.

        Parameters
        ----------
        states : (n,) int64
            Entries of the same state have the same number, from 0 on.
        owners : (n,) int64
            The number of the label; ascending.
        counts : (n,) int64
            How often a state of that label was this one.
        """
        shares = counts / self._totals[owners]
        labels = len(self._totals)
        alone = np.bincount(states)[states] == 1
        self.specific += np.bincount(owners[alone], minlength=labels)
        self.specific_mass += np.bincount(owners[alone], shares[alone], labels)
        states, owners, shares = states[~alone], owners[~alone], shares[~alone]
        edges = np.searchsorted(owners, np.arange(labels + 1))
        of_label = np.zeros(states.max(initial=-1) + 1)
        for label, (begin, end) in enumerate(pairwise(edges)):
            of_label[states[begin:end]] = shares[begin:end]
            self._add_pairs(label, of_label[states[end:]], shares[end:], owners[end:])
            of_label[states[begin:end]] = 0

    def _add_pairs(
        self,
        label: int,
        p: NDArray[np.float64],
        q: NDArray[np.float64],
        others: I64Array,
    ) -> None:
        """Add what one label (shares p) has in common with later ones (shares q)."""
        common = p > 0
        p, q, others = p[common], q[common], others[common]
        mean = (p + q) / 2
        divergence = (p * np.log2(p / mean) + q * np.log2(q / mean)) / 2 - mean
        for matrix, terms in ((self.shared, np.minimum(p, q)), (self._divergence, divergence)):
            sums = np.bincount(others, terms, len(self._totals))
            matrix[label] += sums
            matrix[:, label] += sums

    def distances(self) -> NDArray[np.float64]:
        """Return the Jensen-Shannon distances, (labels, labels) float64, 0 to 1."""
        distances: NDArray[np.float64] = np.sqrt(np.clip(self._divergence, 0, 1))
        return distances

    @classmethod
    def of(
        cls, totals: Sequence[int], entries: Iterable[tuple[I64Array, I64Array, I64Array]]
    ) -> Overlap:
        """Add up all entries; see `add`."""
        overlap = cls(totals)
        for some in entries:
            overlap.add(*some)
        return overlap
