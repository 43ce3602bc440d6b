"""What the arrays of a part have in common, its states and its offsets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, Store
from zarr.core.array_spec import ArrayConfig
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import StorePath, WrapperStore

from tensorstate.nodes import DamagedMetadataError
from tensorstate.storage.stores import list_names

__all__ = ["DamagedChunkError", "check_backed", "endless", "read_found", "with_rows"]

# More rows than any part will have.
_ENDLESS = 1 << 48

# What takes little memory, and little time, even if nothing of it is there.
_FEW_ROWS = 1 << 24
_FEW_CHUNKS = 1 << 14


class DamagedChunkError(OSError):
    """What stands for committed rows is missing or does not pass its checksum."""


def with_rows(
    array: zarr.Array[Any], rows: int, config: ArrayConfig | None = None
) -> zarr.Array[Any]:
    """Return the array as if it had so many rows; its stored metadata stay as they are."""
    inner = array.async_array
    return zarr.Array(
        zarr.AsyncArray(
            metadata=inner.metadata.update_shape((rows, *array.shape[1:])),
            store_path=inner.store_path,
            config=config or inner.config,
        )
    )


def endless(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return the array to store chunks in: before the shape covers them, and also of zeros only."""
    # Zarr forgets that of an array that is opened again, and leaves chunks of zeros out.
    config = replace(array.async_array.config, write_empty_chunks=True)
    return with_rows(array, _ENDLESS, config)


def read_found(
    array: zarr.Array[Any], start: int, stop: int
) -> tuple[NDArray[Any], frozenset[str]]:
    """Return rows of an array, and the keys of the chunks that were found in the store for them.

    Zarr reads a missing chunk as zeros, without a word. To ask for each before it is read takes a
    store behind a network as long again.

    Raises
    ------
    ValueError, RuntimeError
        If a chunk is damaged.
    """
    inner = array.async_array
    store = _Noting(inner.store_path.store)
    noted = zarr.Array(
        zarr.AsyncArray(
            metadata=inner.metadata,
            store_path=StorePath(store, inner.store_path.path),
            config=inner.config,
        )
    )
    rows = np.asarray(noted[start:stop])
    return rows, frozenset(key.removeprefix(f"{array.path}/") for key in store.found)


class _Noting(WrapperStore[Store]):
    """A store that notes what it was asked for and had."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.found: set[str] = set()

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        value = await self._store.get(key, prototype, byte_range)
        if value is not None:
            self.found.add(key)
        return value


def check_backed(array: zarr.Array[Any], rows: int, where: str, *, dropped: int = 0) -> None:
    """Check, before room is made, that there can be as many rows as are claimed.

    Parameters
    ----------
    array : zarr.Array
        Where they are to be.
    rows, dropped : int
        How many are committed, and how many of the first of them may be gone.
    where : str
        Names the array in the error.

    Raises
    ------
    DamagedMetadataError
        If there cannot.
    """
    length = array.chunks[0]
    chunks = -(-rows // length) - dropped // length
    if rows - dropped <= _FEW_ROWS and chunks <= _FEW_CHUNKS:
        return
    stored = len(list_names(array.store_path / "c"))
    if 2 * stored < chunks:
        raise DamagedMetadataError(
            f"{where} says that {rows} rows are committed, but of their {chunks} chunks {stored} "
            "are there: its metadata is damaged, or most of it is lost"
        )
