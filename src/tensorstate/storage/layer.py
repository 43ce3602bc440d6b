"""The states of one layer: the same interface for a capture and for a reopened run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate.bits import decompress_states
from tensorstate.counting import StateHistogram, count_states
from tensorstate.metrics import check_entropy_options, efficiency
from tensorstate.storage.format import LayerInfo
from tensorstate.storage.part import PartReader
from tensorstate.storage.rows import RawStates, SelectedRows, instance_numbers

__all__ = ["LayerStates", "StoredLayer"]


class LayerStates:
    """States of a layer: what was recorded, how often, and what follows from it.

    Attributes
    ----------
    name : str
        Name of the capture.
    """

    name: str
    _counted: tuple[int, StateHistogram] | None = None

    @abstractmethod
    def _layer_info(self) -> LayerInfo | None:
        """Return what is captured, or None as long as nothing is known about the layer."""

    @abstractmethod
    def _parts(self) -> Sequence[PartReader]:
        """Return readers of everything recorded so far."""

    @property
    def neurons(self) -> int:
        """Neurons in a state."""
        return self._known_info().neurons

    @property
    def positions(self) -> int:
        """States of one instance: 24 x 24 for a 5x5 convolution on 28x28."""
        return self._known_info().positions

    @property
    def state_count(self) -> int:
        """States recorded so far, repeats included."""
        return sum(len(part) for part in self._parts())

    @property
    def instance_count(self) -> int:
        """Instances recorded so far."""
        info = self._layer_info()
        return self.state_count // info.positions if info else 0

    @property
    def raw_states(self) -> RawStates:
        """Packed states, (rows, W) uint8, read from the store when sliced."""
        return RawStates(self._parts(), self._known_info().width)

    @property
    def states(self) -> NDArray[np.bool_]:
        """The distinct states, (distinct, neurons) bool, aligned with `counts`."""
        return decompress_states(self._distinct_packed(), self.neurons)

    def state_ids(self) -> list[bytes]:
        """Return the distinct packed states, W bytes each, aligned with `counts`."""
        return [state.tobytes() for state in self._distinct_packed()]

    def counts(self, index: ArrayLike | None = None) -> NDArray[np.int64]:
        """How often each distinct state was recorded.

        Parameters
        ----------
        index : array_like of int or bool, optional
            Instance numbers (one given twice counts twice), or a mask with an entry for every
            instance. Only states of these instances are counted, and those that they do not show
            are left out: ``histogram(index)`` tells which they are.

        Returns
        -------
        ndarray of int64, shape (distinct,)
            Positive counts, aligned with `states` and `state_ids` if all instances are counted.
        """
        return self.histogram(index).counts

    def max_entropy(self) -> float:
        """Return the most bits that a state could carry: the number of neurons."""
        return float(self.neurons)

    def entropy(self, alpha: float | None = 1, estimator: str = "plugin") -> float:
        """Renyi entropy of the states, in bits.

        Parameters
        ----------
        alpha : float or None, default 1
            Renyi order (1: Shannon); None gives `max_entropy`.
        estimator : {"plugin"}
            How probabilities are estimated; see `tensorstate.entropy`, also for the formulas.
        """
        check_entropy_options(alpha, estimator)
        if alpha is None:
            return self.max_entropy()
        self._check_any_states()
        return self.histogram().entropy(alpha, estimator)

    def efficiency(
        self, alpha1: float = 1, alpha2: float | None = None, estimator: str = "plugin"
    ) -> float:
        """Neural efficiency: entropy of order `alpha1` over the most it could be, 0 to 1.

        Parameters
        ----------
        alpha1 : float, default 1
            Renyi order of the numerator.
        alpha2 : float or None, optional
            Renyi order of the denominator; None stands for `max_entropy`.
        estimator : {"plugin"}
            How probabilities are estimated.

        References
        ----------
        N. Schaub and N. Hotaling, Appl. Sci. 2023, 13(18), 10286.
        """
        return efficiency(self.entropy(alpha1, estimator), self.entropy(alpha2, estimator))

    def histogram(self, instances: ArrayLike | None = None) -> StateHistogram:
        """Count the distinct states.

        Parameters
        ----------
        instances : array_like of int or bool, optional
            Instance numbers (one given twice counts twice), or a mask with an entry for every
            instance; without it, all are counted, once for the rows that are there.

        Returns
        -------
        StateHistogram
            Keys, counts and first rows. Rows are numbered within the layer.
        """
        self._check_any_states()
        if instances is not None:
            return self._histogram_of(instances)
        parts = self._parts()
        rows = sum(len(part) for part in parts)
        if self._counted is None or self._counted[0] != rows:
            self._counted = (rows, count_states(list(parts)))
        return self._counted[1]

    def _histogram_of(self, instances: ArrayLike) -> StateHistogram:
        numbers = instance_numbers(instances, self.instance_count)
        selected = SelectedRows(self.raw_states, numbers, self.positions)
        histogram = count_states(selected)
        return histogram.with_first_rows(selected.layer_rows(histogram.first_rows))

    def _distinct_packed(self) -> NDArray[np.uint8]:
        histogram = self.histogram()
        if histogram.width <= 16:
            return histogram.packed_states()
        return self.raw_states[histogram.first_rows]

    def _known_info(self) -> LayerInfo:
        info = self._layer_info()
        if info is None:
            raise ValueError(self._nothing_yet())
        return info

    def _check_any_states(self) -> None:
        if self.state_count == 0:
            raise ValueError(self._nothing_yet())

    def _nothing_yet(self) -> str:
        return (
            f"capture {self.name!r} has recorded no states yet: "
            "run data through the model first, for example with predict"
        )

    def __repr__(self) -> str:
        info = self._layer_info()
        shape = f"{info.neurons} neurons, " if info else ""
        return f"<{type(self).__name__} {self.name!r}: {shape}{self.state_count} states>"


class StoredLayer(LayerStates):
    """A layer of a reopened run.

    Parameters
    ----------
    name : str
        Name of the capture.
    info : LayerInfo
        What was captured.
    parts : sequence of PartReader
        Its parts, in the order of their instances.
    """

    def __init__(self, name: str, info: LayerInfo, parts: Sequence[PartReader]) -> None:
        self.name = name
        self._info = info
        self._stored_parts = tuple(parts)

    capture_on = False

    def _layer_info(self) -> LayerInfo:
        return self._info

    def _parts(self) -> Sequence[PartReader]:
        return self._stored_parts

    def _nothing_yet(self) -> str:
        return f"layer {self.name!r} of the run holds no committed states"
