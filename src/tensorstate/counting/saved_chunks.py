"""Chunks of saved histograms: they are there, whole, and those that were saved."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.sync import sync

from tensorstate.counting.parts import DamagedHistogramError
from tensorstate.nodes import digest_of

__all__ = ["read_all", "read_chunk"]

LOOKS_AT_ONCE = 256

UNREADABLE = (ValueError, RuntimeError, TypeError)
"""What Zarr and its codecs raise for a chunk that is not what was written."""


def read_all(array: zarr.Array[Any], digests: Sequence[str]) -> npt.NDArray[Any]:
    """Read all chunks at once, or raise DamagedHistogramError where one is missing or damaged."""
    length = array.chunks[0]
    chunks = range(-(-array.shape[0] // length))
    # Before there is room for them: metadata may claim any number.
    check_exist(array, chunks)
    try:
        values = np.asarray(array[...])
    except UNREADABLE:
        # One by one, to tell which chunk it is.
        return np.concatenate([read_chunk(array, digests, chunk) for chunk in chunks])
    check_exist(array, chunks)
    for chunk in chunks:
        check_digest(array, digests, chunk, values[chunk * length : (chunk + 1) * length])
    return values


def read_chunk(array: zarr.Array[Any], digests: Sequence[str], chunk: int) -> npt.NDArray[Any]:
    """Read one chunk, or raise DamagedHistogramError where it is missing or damaged."""
    length = array.chunks[0]
    try:
        values = np.asarray(array[chunk * length : (chunk + 1) * length])
    except UNREADABLE as error:
        raise DamagedHistogramError(
            f"{array.store_path} is damaged: chunk {chunk}: {error}: count again"
        ) from error
    check_exist(array, [chunk])
    check_digest(array, digests, chunk, values)
    return values


def check_digest(
    array: zarr.Array[Any], digests: Sequence[str], chunk: int, values: npt.NDArray[Any]
) -> None:
    """Raise DamagedHistogramError if a chunk is not the one that was saved."""
    if digests and digest_of(values).hex() != digests[chunk]:
        raise DamagedHistogramError(
            f"{array.store_path} is damaged: chunk {chunk} is whole, but not the one that was "
            "saved, or was changed after it was loaded: load it again, or count again"
        )


def check_exist(array: zarr.Array[Any], chunks: Sequence[int]) -> None:
    """Raise DamagedHistogramError if a chunk is missing, at last after it was read.

    Zarr reads such a chunk as zeros, also one that was removed a moment ago.
    """
    tail = [0] * (array.ndim - 1)

    async def look(names: list[str]) -> list[bool]:
        return await asyncio.gather(*((array.store_path / name).exists() for name in names))

    for start in range(0, len(chunks), LOOKS_AT_ONCE):
        some = chunks[start : start + LOOKS_AT_ONCE]
        names = [array.metadata.encode_chunk_key((chunk, *tail)) for chunk in some]
        for chunk, name, found in zip(some, names, sync(look(names)), strict=True):
            if found:
                continue
            raise DamagedHistogramError(
                f"{array.store_path} is damaged: chunk {chunk} is missing ({name}): count again"
            )
