"""The states of one layer: the same interface for a capture and for a reopened run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate.bits import decompress_states
from tensorstate.counting import StateHistogram
from tensorstate.counting.keys import WIDEST_EXACT
from tensorstate.counting.memory import MemoryLimit
from tensorstate.counting.progress import telling
from tensorstate.metrics import check_entropy_options, efficiency, entropy_of_spectrum
from tensorstate.storage.cache import HistogramCache
from tensorstate.storage.classes import LabelStatistics
from tensorstate.storage.entry import Spectrum
from tensorstate.storage.everything import EverythingCounted
from tensorstate.storage.format import LayerInfo
from tensorstate.storage.instances import InstanceNumbers
from tensorstate.storage.labels import Label, count_by_label, label_codes
from tensorstate.storage.neurons import NeuronStatistics
from tensorstate.storage.parameters import CountedParameters
from tensorstate.storage.part import PartReader
from tensorstate.storage.rows import RawStates
from tensorstate.storage.sampling import SampleStatistics
from tensorstate.storage.selection import SelectedRows, count_instances, select
from tensorstate.storage.showing import ShownLayer

__all__ = ["LayerStates"]


class LayerStates(
    NeuronStatistics, LabelStatistics, SampleStatistics, CountedParameters, ShownLayer
):
    """States of a layer: what was recorded, how often, and what follows from it.

    Attributes
    ----------
    name : str
        Name of the capture.
    """

    name: str

    @cached_property
    def _everything(self) -> EverythingCounted:
        return EverythingCounted()

    @abstractmethod
    def _layer_info(self) -> LayerInfo | None:
        """Return what is captured, or None as long as nothing is known about the layer."""

    @abstractmethod
    def _parts(self) -> Sequence[PartReader]:
        """Return readers of everything recorded so far."""

    @abstractmethod
    def _cache(self) -> HistogramCache | None:
        """Return what was counted before, also by others; None if counts are not stored."""

    @property
    def neurons(self) -> int:
        """Neurons in a state."""
        return self._known_info().neurons

    @property
    def positions(self) -> int | None:
        """States of one instance: 24 x 24 for a 5x5 convolution on 28x28.

        None if instances differ in them, as sequences of different lengths do.
        """
        return self._known_info().positions

    @property
    def threshold(self) -> float | tuple[float, ...]:
        """Above which activations fire: one number, or one for each neuron."""
        return self._known_info().threshold

    @property
    def state_count(self) -> int:
        """States recorded so far, repeats included."""
        return sum(len(part) for part in self._parts())

    @property
    def instance_count(self) -> int:
        """Instances recorded so far."""
        info = self._layer_info()
        return sum(len(part.extents(info.positions)) for part in self._parts()) if info else 0

    @property
    def raw_states(self) -> RawStates:
        """Packed states, (rows, W) uint8, read from the store when sliced.

        Raises
        ------
        ValueError
            If the layer was captured with ``histogram="live"``, which keeps none.
        """
        self._check_stored("reading raw states")
        return RawStates(self._parts(), self._known_info().width)

    @property
    def states(self) -> NDArray[np.bool_]:
        """The distinct states, (distinct, neurons) bool, aligned with `counts`.

        Raises
        ------
        ValueError
            If there are more than 128 neurons, and the layer was captured with
            ``histogram="live"``: counts hold digests of such states, and rows are not kept.
        """
        return decompress_states(self._distinct_packed(), self.neurons)

    def state_ids(self) -> list[bytes]:
        """Return the distinct packed states, W bytes each, aligned with `counts`.

        Raises
        ------
        ValueError
            As for `states`.
        """
        return [state.tobytes() for state in self._distinct_packed()]

    def counts(self, index: ArrayLike | None = None) -> NDArray[np.int64]:
        """How often each distinct state was recorded.

        Parameters
        ----------
        index : array_like of int or bool, optional
            Instance numbers (one given twice counts twice), or a mask with an entry for every
            instance, as for `histogram`. Only states of these instances are counted, and those
            that they do not show are left out: ``histogram(index)`` tells which they are.

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
        estimator : str, default "plugin"
            How it is estimated: "plugin", "miller_madow", "grassberger", "chao_shen",
            "chao_wang_jost", "nsb", "jackknife" or, for whole orders from 2, "unbiased"; see
            `tensorstate.entropy`, also for the formulas. "nsb" takes all ``2**neurons`` states
            for possible.
        """
        check_entropy_options(alpha, estimator)
        if alpha is None:
            return self.max_entropy()
        self._check_any_states()
        return entropy_of_spectrum(*self.spectrum(), alpha, estimator, states=2**self.neurons)

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
        estimator : str, default "plugin"
            How both are estimated, as for `entropy`. Some estimates are larger than the number of
            neurons, which makes an efficiency above 1: the sample is then too small for them.

        References
        ----------
        N. Schaub and N. Hotaling, Appl. Sci. 2023, 13(18), 10286.
        """
        for alpha in (alpha1, alpha2):
            check_entropy_options(alpha, estimator)
        return efficiency(self.entropy(alpha1, estimator), self.entropy(alpha2, estimator))

    @overload
    def histogram(
        self,
        instances: ArrayLike | None = None,
        by: None = None,
        memory_limit: MemoryLimit = None,
        spill: str | PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> StateHistogram: ...

    @overload
    def histogram(
        self,
        instances: ArrayLike | None = None,
        *,
        by: ArrayLike,
        memory_limit: MemoryLimit = None,
        spill: str | PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> dict[Label, StateHistogram]: ...

    def histogram(
        self,
        instances: ArrayLike | None = None,
        by: ArrayLike | None = None,
        memory_limit: MemoryLimit = None,
        spill: str | PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> StateHistogram | dict[Label, StateHistogram]:
        """Count the distinct states.

        A count of everything is cached in the run, where that can be written: the next one, also
        of another process, reads nothing but the cache, and after more states were captured
        only these.

        Parameters
        ----------
        instances : array_like of int or bool, optional
            Instance numbers (one given twice counts twice), or a mask with an entry for every
            instance; without it, all are counted, once for the rows that are there. Only the
            chunks that hold these instances are read. Where several writers wrote the run, the
            numbers are those that they gave: the first one of a part is its `first_instance`,
            also while parts before it are not complete. A mask then has an entry for every number
            up to the last, and what it chooses has to be there.
        by : array_like of int, str or bool, shape (instance_count,), optional
            A label for every instance of the layer (with several writers, for every number up to
            the last; of numbers that nobody committed it does not matter); the states of each
            label are counted by
            themselves. That is done in one pass over the rows and in memory if it fits the
            limit, even if no state comes twice. If not, labels are counted one after the other,
            each like a selection of its instances, within what the limit leaves beside the
            results so far: chunks that hold several labels are then read for each of them.
        memory_limit, spill : optional
            What counting may take and where it spills, as for `count_states`. A count in the
            cache that takes a quarter of the limit or more stays there (`StateHistogram.origin`):
            it can be read until it is replaced, after more states were captured.
        progress : bool, optional
            Whether to show how far it is, as for `count_states`.

        Returns
        -------
        StateHistogram, or dict of label to StateHistogram
            Keys, counts and first rows. Rows are numbered within the layer. Labels are in
            ascending order, and those that no instance has that is counted are left out.

        Raises
        ------
        ValueError
            If no states were recorded, the labels are not one for each instance, or the limit is
            too small: for one label, or for the results of all of them. If instances or labels are
            given, and the layer was captured with ``histogram="live"``.
        IndexError
            If an instance is not there, or a mask has another length.
        TypeError
            If labels are neither whole numbers nor strings nor bools.
        DamagedChunkError
            If a chunk is missing or damaged; run, layer, part and chunk are named.

        Examples
        --------
        >>> import tensorstate as ts
        >>> layer = ts.StateRecorder("layer")
        >>> layer.record([[1.0, -1.0], [1.0, 2.0], [1.0, -1.0]])
        >>> layer.histogram(instances=[0, 1])
        <StateHistogram: 2 distinct of 2 states, 1 byte each>
        >>> layer.histogram(by=["cat", "dog", "cat"])["cat"].counts.tolist()
        [2]
        """
        self._check_any_states()
        parts = self._parts()
        limits: dict[str, Any] = {"memory_limit": memory_limit, "spill": spill}
        with telling(self.name, progress):
            if by is not None:
                numbers = self._numbers()
                labels, codes = label_codes(by, numbers.span)
                every = numbers.all()
                places = numbers.places(every if instances is None else instances)
                return count_by_label(parts, places, self.positions, labels, codes[every], **limits)
            if instances is not None:
                places = self._numbers().places(instances)
                return count_instances(parts, places, self.positions, **limits)
            return self._everything.histogram(parts, self._cache(), **limits)

    def spectrum(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many states were seen exactly c times, for each c that occurs.

        This is all that an entropy needs; of a run that was counted before, it is read from the
        cache, without the keys.

        Returns
        -------
        times_seen : ndarray of int64, shape (n,)
            The counts that occur, ascending.
        number_of_states : ndarray of int64, shape (n,)
            How many states have that count.
        """
        self._check_any_states()
        with telling(self.name):
            return self._everything.spectrum(self._parts(), self._cache())

    def _known_spectrum(self) -> Spectrum | None:
        """Return the spectrum if that takes no counting."""
        return self._everything.known_spectrum(self._parts(), self._cache())

    def _rows_of(self, instances: ArrayLike | None) -> Sequence[PartReader | SelectedRows]:
        """Return what holds the rows of instances, or all rows; at least one."""
        self._check_any_states()
        some = "of some instances" if instances is not None else f"of {self.neurons}"
        self._check_stored(f"looking at single neurons {some}")
        parts = self._parts()
        if instances is None:
            return [part for part in parts if len(part)]
        selected = select(parts, self._numbers().places(instances), self.positions)
        if not selected:
            raise ValueError(f"capture {self.name!r}: no instance is chosen")
        return selected

    def _known_states(self) -> StateHistogram | None:
        info = self._known_info()
        is_exact = info.histogram == "live" and info.width <= WIDEST_EXACT
        return self.histogram() if is_exact else None

    def _numbers(self) -> InstanceNumbers:
        self._check_any_states()
        self._check_stored("telling instances apart")
        return InstanceNumbers.of(self._parts(), self.positions)

    def _distinct_packed(self) -> NDArray[np.uint8]:
        if self._known_info().width <= WIDEST_EXACT:
            return self.histogram().packed_states()
        self._check_stored(f"listing states of {self.neurons} neurons, counted by their digests,")
        return self.raw_states[self.histogram().first_rows]

    def _known_info(self) -> LayerInfo:
        info = self._layer_info()
        if info is None:
            raise ValueError(self._nothing_yet())
        return info

    def _check_any_states(self) -> None:
        if self.state_count == 0:
            raise ValueError(self._nothing_yet())

    def _check_stored(self, what: str) -> None:
        """Raise ValueError for what needs raw states, if there are none."""
        if self._known_info().histogram == "live":
            raise ValueError(
                f"layer {self.name!r} was captured with histogram='live', which keeps no raw "
                f"states: {what} needs a capture with histogram='stored'"
            )

    def _nothing_yet(self) -> str:
        return (
            f"capture {self.name!r} has recorded no states yet: "
            "run data through the model first, for example with predict"
        )

    def __repr__(self) -> str:
        info = self._layer_info()
        shape = f"{info.neurons} neurons, " if info else ""
        return f"<{type(self).__name__} {self.name!r}: {shape}{self.state_count} states>"
