"""Batches of activations on their way into a recorder, wherever they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tensorstate.bits import StatePacker

__all__ = ["Batch", "HostBatch", "as_array"]


class Batch(Protocol):
    """Activations of a batch, (instances, ..., neurons)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Instances, positions, neurons: of what `values` gives."""

    def values(self) -> NDArray[Any]:
        """Return all activations on the host, the neurons on the last axis."""

    def pack(self, start: int, stop: int, packer: StatePacker) -> tuple[NDArray[np.uint8], int]:
        """Pack which neurons of some instances fire.

        Parameters
        ----------
        start, stop : int
            From which instance up to which other.
        packer : StatePacker
            Knows which neurons fire.

        Returns
        -------
        packed : ndarray of uint8, shape (stop - start, ..., W)
            On the host.
        nans : int
            How many activations were NaN.
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


def as_array(array: Any) -> NDArray[Any]:
    """Return an array of anything with ``__array__`` or DLPack, or of lists."""
    if hasattr(array, "__array__") or isinstance(array, (list, tuple)):
        return np.asarray(array)
    if hasattr(array, "__dlpack__"):
        return np.from_dlpack(array)
    raise TypeError(f"states are recorded from arrays, not from {type(array).__name__}")
