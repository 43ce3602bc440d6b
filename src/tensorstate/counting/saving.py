"""Histograms on disk: a Zarr group with keys, counts and first rows in canonical order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import StoreLike

from tensorstate.counting.blocks import Counted
from tensorstate.counting.keys import words_per_key

__all__ = ["CHUNK_ENTRIES", "load", "save"]

FORMAT = 1
ATTRIBUTE = "tensorstate_histogram"
CHUNK_ENTRIES = 1 << 18
NAMES = ("keys", "counts", "first_rows")


def save(
    chunks: Iterable[Counted],
    store: StoreLike | zarr.Group,
    path: str,
    *,
    width: int,
    distinct: int,
    total: int,
) -> None:
    """Write a histogram to a Zarr group, replacing what is there.

    Parameters
    ----------
    chunks : iterable of (keys, counts, first rows)
        In canonical order, each of `CHUNK_ENTRIES` entries except for the last.
    store : path, URL, Zarr store or zarr.Group
        Where to write.
    path : str
        Name of the group within the store.
    width : int
        Bytes of a packed state.
    distinct, total : int
        How many entries there are, and the sum of their counts.
    """
    group = zarr.create_group(store=_store_of(store), path=path, overwrite=True)
    words = words_per_key(width)
    shapes: list[tuple[int, ...]] = [() if words == 1 else (2,), (), ()]
    length = min(max(distinct, 1), CHUNK_ENTRIES)
    arrays = [
        group.create_array(
            name,
            shape=(distinct, *shape),
            dtype=dtype,
            chunks=(length, *shape),
            compressors=[BloscCodec(cname="lz4", shuffle="noshuffle"), Crc32cCodec()],
            config={"write_empty_chunks": True},
        )
        for name, shape, dtype in zip(NAMES, shapes, ("uint64", "int64", "int64"), strict=True)
    ]
    start = 0
    for entries in chunks:
        stop = start + len(entries[1])
        for array, values in zip(arrays, entries, strict=True):
            array[start:stop] = values
        start = stop
    group.attrs[ATTRIBUTE] = {
        "format": FORMAT,
        "width": width,
        "distinct": distinct,
        "total": total,
    }


def load(store: StoreLike | zarr.Group, path: str) -> dict[str, Any]:
    """Read what `save` wrote; parameters and errors are those of `StateHistogram.load`.

    Returns
    -------
    dict
        keys, counts, first_rows and width.
    """
    group = zarr.open_group(_store_of(store), path=path, mode="r")
    facts = group.attrs.get(ATTRIBUTE)
    if not isinstance(facts, dict):
        raise ValueError(f"{group.store_path} does not hold a complete histogram: count again")
    if facts["format"] != FORMAT:
        raise ValueError(
            f"{group.store_path} holds a histogram of format {facts['format']}, "
            f"and this version reads format {FORMAT}: update tensorstate"
        )
    read: dict[str, Any] = {}
    for name in NAMES:
        try:
            read[name] = np.asarray(group[name][...])  # type: ignore[index]
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{group.store_path}/{name} is damaged: {error}") from error
    distinct, total = len(read["counts"]), int(read["counts"].sum())
    if distinct != facts["distinct"] or total != facts["total"]:
        raise ValueError(
            f"{group.store_path} is damaged: it should hold {facts['distinct']} distinct of "
            f"{facts['total']} states, not {distinct} of {total}"
        )
    return {**read, "width": int(facts["width"])}


def _store_of(store: StoreLike | zarr.Group) -> Any:
    return store.store_path if isinstance(store, zarr.Group) else store
