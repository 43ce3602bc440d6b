"""What the states of a layer tell about labels of the instances, and about another layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from os import PathLike

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from tensorstate.counting import StateHistogram
from tensorstate.counting.joint import joint_entries
from tensorstate.counting.memory import MemoryLimit
from tensorstate.metrics import Overlap, efficiency, entropy, information, information_bias
from tensorstate.storage.label_intervals import LabelIntervals
from tensorstate.storage.labels import Label

__all__ = ["LabelStatistics"]


class LabelStatistics(LabelIntervals):
    """How states differ from label to label, or layer to layer: a part of `LayerStates`.

    The states of each label are counted as `LayerStates.histogram` counts them; labels,
    instances and limits are what it takes, and what it raises is raised here.
    """

    _run_labels: Callable[[], ArrayLike | None] = staticmethod(lambda: None)

    @property
    @abstractmethod
    def neurons(self) -> int:
        """Neurons in a state."""

    def label_summary(
        self,
        labels: ArrayLike | None = None,
        instances: ArrayLike | None = None,
        memory_limit: MemoryLimit = None,
        spill: str | PathLike[str] | None = None,
    ) -> pd.DataFrame:
        """Lay the numbers of labels side by side.

        Parameters
        ----------
        labels : array_like of int, str or bool, shape (instance_count,), optional
            A label for every instance; without it, those that the run has (`StateRun.set_labels`).
        instances, memory_limit, spill : optional
            As for `histogram`.

        Returns
        -------
        pandas.DataFrame
            A row for each `label`, with the columns `states`, `distinct` (states), `entropy`
            (bits, Shannon, plug-in), `efficiency` (0 to 1), `specific` (distinct states that no
            other label has) and `specific_mass` (which share these have of the label's states,
            0 to 1).

        Examples
        --------
        >>> import tensorstate as ts
        >>> layer = ts.StateRecorder("layer")
        >>> layer.record([[1.0, -1.0], [1.0, 2.0], [1.0, -1.0], [1.0, -1.0]])
        >>> layer.label_summary(["cat", "dog", "dog", "cat"])["specific_mass"].to_dict()
        {'cat': 0.0, 'dog': 0.5}
        """
        found = self._of_labels(labels, instances, memory_limit, spill)
        overlap = _overlap(list(found.values()))
        entropies = [some.entropy() for some in found.values()]
        return pd.DataFrame(
            {
                "states": [some.total for some in found.values()],
                "distinct": [some.distinct for some in found.values()],
                "entropy": entropies,
                "efficiency": [efficiency(bits, self.neurons) for bits in entropies],
                "specific": overlap.specific,
                "specific_mass": overlap.specific_mass,
            },
            index=pd.Index(list(found), name="label"),
        )

    def label_information(
        self,
        labels: ArrayLike | None = None,
        instances: ArrayLike | None = None,
        memory_limit: MemoryLimit = None,
        spill: str | PathLike[str] | None = None,
    ) -> pd.Series[float]:
        """Mutual information of states and labels: what one state tells about the label, in bits.

        Parameters
        ----------
        labels : array_like of int, str or bool, shape (instance_count,), optional
            A label for every instance; without it, those that the run has (`StateRun.set_labels`).
        instances, memory_limit, spill : optional
            As for `histogram`.

        Returns
        -------
        pandas.Series
            In bits: `information` (plug-in), its `bias` to first order, `corrected` (the
            difference), and the entropies `state_entropy` and `label_entropy`, which it cannot
            exceed. Where most states were seen once, information is close to the entropy of the
            labels whatever the layer does, and the correction is not enough: `label_summary`
            tells how many were seen, and `label_information_interval` how much all of this
            depends on which instances were recorded.

        References
        ----------
        S. Panzeri and A. Treves, Network: Computation in Neural Systems 7 (1996) 87-107.
        """
        found = self._of_labels(labels, instances, memory_limit, spill)
        limits = {"memory_limit": memory_limit, "spill": spill}
        every: StateHistogram = self.histogram(instances, **limits)
        totals = [some.total for some in found.values()]
        state_entropy = every.entropy()
        told = information(state_entropy, [some.entropy() for some in found.values()], totals)
        distincts = [some.distinct for some in found.values()]
        bias = information_bias(every.distinct, distincts, every.total)
        return pd.Series(
            {
                "information": told,
                "bias": bias,
                "corrected": told - bias,
                "state_entropy": state_entropy,
                "label_entropy": entropy(np.array(totals)),
            },
            name=self.name,
        )

    def label_overlap(
        self,
        labels: ArrayLike | None = None,
        instances: ArrayLike | None = None,
        memory_limit: MemoryLimit = None,
        spill: str | PathLike[str] | None = None,
    ) -> pd.DataFrame:
        """How alike the states of each two labels are.

        Parameters
        ----------
        labels : array_like of int, str or bool, shape (instance_count,), optional
            A label for every instance; without it, those that the run has (`StateRun.set_labels`).
        instances, memory_limit, spill : optional
            As for `histogram`.

        Returns
        -------
        pandas.DataFrame
            A row for each `label` and `other` label, with the columns `shared_mass` (the share of
            states that both have, 0 to 1) and `distance` (Jensen-Shannon, base 2, 0 to 1).
            ``["distance"].unstack()`` makes a matrix of it.

        References
        ----------
        J. Lin, IEEE Transactions on Information Theory 37 (1991) 145-151.

        Examples
        --------
        >>> import tensorstate as ts
        >>> layer = ts.StateRecorder("layer")
        >>> layer.record([[1.0, -1.0], [1.0, 2.0], [1.0, -1.0], [1.0, -1.0]])
        >>> layer.label_overlap(["cat", "dog", "dog", "cat"]).loc[("cat", "dog"), "shared_mass"]
        np.float64(0.5)
        """
        found = self._of_labels(labels, instances, memory_limit, spill)
        overlap = _overlap(list(found.values()))
        index = pd.MultiIndex.from_product([list(found)] * 2, names=["label", "other"])
        columns = {"shared_mass": overlap.shared.ravel(), "distance": overlap.distances().ravel()}
        return pd.DataFrame(columns, index=index)

    def divergence(
        self,
        other: LabelStatistics,
        memory_limit: MemoryLimit = None,
        spill: str | PathLike[str] | None = None,
    ) -> pd.Series[float]:
        """How alike the states of two layers are: of one before and after a training, say.

        Parameters
        ----------
        other : LayerStates
            As many neurons, with the same meaning; usually the same layer in another run.
        memory_limit, spill : optional
            As for `histogram`.

        Returns
        -------
        pandas.Series
            `shared_mass` (the share of states that both have, 0 to 1), `distance`
            (Jensen-Shannon, base 2, 0 to 1), and the distinct states `only_here` and `only_there`.

        Raises
        ------
        ValueError
            If the layers have different numbers of neurons; or as for `histogram`.

        References
        ----------
        J. Lin, IEEE Transactions on Information Theory 37 (1991) 145-151.

        Examples
        --------
        >>> import tensorstate as ts
        >>> before, after = ts.StateRecorder("before"), ts.StateRecorder("after")
        >>> before.record([[1.0, -1.0], [1.0, 2.0]])
        >>> after.record([[1.0, -1.0], [-1.0, -1.0]])
        >>> before.divergence(after)["shared_mass"]
        np.float64(0.5)
        """
        if self.neurons != other.neurons:
            raise ValueError(
                f"{self.name!r} has {self.neurons} neurons and {other.name!r} {other.neurons}: "
                "only states of the same neurons can be compared"
            )
        limits = {"memory_limit": memory_limit, "spill": spill}
        overlap = _overlap([some.histogram(**limits) for some in (self, other)])
        return pd.Series(
            {
                "shared_mass": overlap.shared[0, 1],
                "distance": overlap.distances()[0, 1],
                "only_here": overlap.specific[0],
                "only_there": overlap.specific[1],
            }
        )

    def _of_labels(
        self,
        labels: ArrayLike | None,
        instances: ArrayLike | None,
        memory_limit: MemoryLimit,
        spill: str | PathLike[str] | None,
    ) -> dict[Label, StateHistogram]:
        found: dict[Label, StateHistogram] = self.histogram(
            instances, by=self._labels_or_stored(labels), memory_limit=memory_limit, spill=spill
        )
        # The instances of a label may all be without positions.
        found = {label: some for label, some in found.items() if some.total}
        if not found:
            raise ValueError(f"capture {self.name!r}: no instance is chosen, so there is no label")
        return found

    def _labels_or_stored(self, labels: ArrayLike | None) -> ArrayLike:
        found = self._run_labels() if labels is None else labels
        if found is None:
            raise ValueError(
                f"capture {self.name!r} has no labels: pass one for every instance, or open the "
                "run and store them with set_labels"
            )
        return found


def _overlap(histograms: list[StateHistogram]) -> Overlap:
    return Overlap.of([some.total for some in histograms], joint_entries(histograms))
