"""What the arrays of a part have in common, its states and its offsets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import zarr
from zarr.core.array_spec import ArrayConfig
from zarr.core.sync import sync

from tensorstate.storage.stores import list_names

__all__ = ["DamagedChunkError", "check_backed", "endless", "is_stored", "with_rows"]

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


def is_stored(array: zarr.Array[Any], key: str) -> bool:
    """Whether a chunk is in the store: Zarr reads a missing one as zeros, without a word."""
    return bool(sync((array.store_path / key).exists()))


def check_backed(array: zarr.Array[Any], rows: int, where: str, *, dropped: int = 0) -> None:
    """Raise ValueError if so many rows are claimed that there cannot be, before room is made.

    Parameters
    ----------
    array : zarr.Array
        Where they are to be.
    rows, dropped : int
        How many are committed, and how many of the first of them may be gone.
    where : str
        Names the array in the error.
    """
    length = array.chunks[0]
    chunks = -(-rows // length) - dropped // length
    if rows - dropped <= _FEW_ROWS and chunks <= _FEW_CHUNKS:
        return
    stored = len(list_names(array.store_path / "c"))
    if 2 * stored < chunks:
        raise ValueError(
            f"{where} says that {rows} rows are committed, but of their {chunks} chunks {stored} "
            "are there: its metadata is damaged, or most of it is lost"
        )
