"""Batches of activations on their way into a recorder, wherever they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tensorstate.bits import StatePacker
from tensorstate.storage import LaterRows

__all__ = ["Batch", "HostBatch", "PackedBatch", "as_array"]


class Batch(Protocol):
    """Activations of a batch, (instances, ..., neurons)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Instances, positions, neurons: of what `values` gives."""

    def values(self) -> NDArray[Any]:
        """Return all activations on the host, the neurons on the last axis."""

    def pack(
        self, start: int, stop: int, packer: StatePacker
    ) -> tuple[NDArray[np.uint8] | LaterRows, int]:
        """Pack which neurons of some instances fire.

        Parameters
        ----------
        start, stop : int
            From which instance up to which other.
        packer : StatePacker
            Knows which neurons fire.

        Returns
        -------
        packed : ndarray of uint8, shape (stop - start, ..., W), or LaterRows
            On the host, or on the way to it.
        nans : int
            How many activations were NaN. Of rows on their way that is not known yet, and 0: who
            makes such a batch is told in another way.
        """


@dataclass(frozen=True)
class HostBatch:
    """Activations in an array.

    Attributes
    ----------
    array : ndarray, shape (instances, ..., neurons)
        In any memory layout.
    """

    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    def values(self) -> NDArray[Any]:
        """Return the array."""
        return self.array

    def pack(self, start: int, stop: int, packer: StatePacker) -> tuple[NDArray[np.uint8], int]:
        """Pack which neurons of some instances fire; see `Batch.pack`."""
        return packer.pack(self.array[start:stop])


@dataclass(frozen=True)
class PackedBatch:
    """States that were packed already, with the thresholds of the recorder.

    Attributes
    ----------
    packed : ndarray of uint8, shape (instances, ..., W)
        On the host.
    neurons : int
        Neurons in a state.
    nans : int
        How many activations of the batch were NaN.
    """

    packed: NDArray[np.uint8]
    neurons: int
    nans: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the activations."""
        return (*self.packed.shape[:-1], self.neurons)

    def values(self) -> NDArray[Any]:
        """Raise TypeError: a threshold that a function finds is not known before packing."""
        raise TypeError("activations that are packed already have no values on the host")

    def pack(self, start: int, stop: int, packer: StatePacker) -> tuple[NDArray[np.uint8], int]:
        """Return the packed states of some instances; see `Batch.pack`."""
        return self.packed[start:stop], self.nans if start == 0 else 0


def as_array(array: Any) -> NDArray[Any]:
    """Return an array of anything with ``__array__`` or DLPack, or of lists."""
    if hasattr(array, "__array__") or isinstance(array, (list, tuple)):
        return np.asarray(array)
    if hasattr(array, "__dlpack__"):
        return np.from_dlpack(array)
    raise TypeError(f"states are recorded from arrays, not from {type(array).__name__}")
