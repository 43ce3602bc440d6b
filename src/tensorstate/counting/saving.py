"""Histograms on disk: a Zarr group with keys, counts and first rows in canonical order.

The group's attribute tells how many there are, the digest of each chunk of each array (the XXH3-64
of its content), and its own checksum: nothing else passes for what was saved.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.sync import sync
from zarr.storage import LocalStore, StoreLike, StorePath, WrapperStore
from zarr.storage._common import make_store_path

from tensorstate.contained import contained
from tensorstate.counting.keys import words_per_key
from tensorstate.counting.pieces import Counted
from tensorstate.nodes import digest_of, with_checksum

__all__ = [
    "ATTRIBUTE",
    "CHUNK_ENTRIES",
    "FORMAT",
    "NAMES",
    "address",
    "place",
    "save",
    "tails",
]

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
    origin: str | None = None,
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
    origin : str, optional
        The `address` of what chunks are read from, which must not be replaced.

    Raises
    ------
    ValueError
        If it would be.
    """
    target = place(store, path)
    if origin and is_below(origin, address(target)):
        raise ValueError(
            f"{target} cannot be replaced, because this histogram is read from {origin}: "
            "save it elsewhere, or load it with a larger memory_limit"
        )
    group = zarr.create_group(store=target, overwrite=True, zarr_format=3)
    length = min(max(distinct, 1), CHUNK_ENTRIES)
    arrays = [
        group.create_array(
            name,
            shape=(distinct, *tail),
            dtype=dtype,
            chunks=(length, *tail),
            compressors=[BloscCodec(cname="lz4", shuffle="noshuffle"), Crc32cCodec()],
            config={"write_empty_chunks": True},
        )
        for name, (tail, dtype) in zip(NAMES, tails(width), strict=True)
    ]
    start = 0
    digests: dict[str, list[str]] = {name: [] for name in NAMES}
    for entries in chunks:
        stop = start + len(entries[1])
        for array, values in zip(arrays, entries, strict=True):
            array[start:stop] = values
            digests[array.basename].append(digest_of(values).hex())
        start = stop
    facts = {
        "format": FORMAT,
        "width": width,
        "distinct": distinct,
        "total": total,
        "digests": {name: "".join(found) for name, found in digests.items()},
    }
    group.update_attributes(with_checksum("", {ATTRIBUTE: facts}))


def tails(width: int) -> list[tuple[tuple[int, ...], str]]:
    """Return the shape of one entry and the type of keys, counts and first rows."""
    return [((2,) if words_per_key(width) == 2 else (), "uint64"), ((), "int64"), ((), "int64")]


def place(store: StoreLike | zarr.Group, path: str, mode: Any = None) -> StorePath:
    """Return where a histogram is, or is to be; below a group if one is given.

    In a folder, links that lead out of it are not followed.

    Raises
    ------
    FileNotFoundError
        If it is to be read (mode "r"), and there is no such folder.
    """
    below = store.store_path if isinstance(store, zarr.Group) else store
    return contained(sync(make_store_path(below, path=path, mode=mode)))


def address(path: StorePath) -> str:
    """Return what tells a place in a store from all others that this process knows."""
    store = path.store
    while isinstance(store, WrapperStore):
        store = store._store
    if isinstance(store, LocalStore):
        return str((store.root / path.path).resolve())
    return str(StorePath(store, path.path))


def is_below(inner: str, outer: str) -> bool:
    """Whether the first address is the second, or within it."""
    return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")
