"""Pieces: what blocks of rows gave, laid partition by partition; and how they are merged.

Whatever happens to keys between a block of rows and a histogram, they are in pieces: those that
were only divided, those of a hash table, and those that come back from spill files. All pieces of
a count have the same partitions, so that merging looks at one partition of all at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tensorstate.counting import partitions
from tensorstate.counting.keys import U64Array, changes, empty_keys, frozen, mixed_hash
from tensorstate.counting.pages import BLOCK, HUGE, blocks

I64Array: TypeAlias = npt.NDArray[np.int64]
Counted: TypeAlias = tuple[U64Array, I64Array, I64Array]
"""Distinct keys, their counts and the first row of each."""

ROWS_PER_PARTITION = 40_000
MOST_PARTITION_BITS = 10


def partition_bits(rows: int, most: int = MOST_PARTITION_BITS) -> int:
    """Return b such that ``2**b`` partitions of `rows` rows fit the processor's cache each."""
    return min(max(rows - 1, 0) // ROWS_PER_PARTITION, (1 << most) - 1).bit_length()


@dataclass(frozen=True)
class Piece:
    """Keys in chunks, and each chunk laid partition by partition.

    Attributes
    ----------
    keys : (n,) or (n, 2) uint64
        Not necessarily distinct.
    counts : (n,) int64 or uint32, or None
        None: every count is 1.
    rows : (n,) of the type of counts; uint16 or uint32 where counts is None
        First rows, less `add` of the chunk.
    starts : (chunks, partitions + 1) int64
        Where each partition of each chunk starts.
    add : (chunks,) int64
        Numbers to add to `rows`.
    """

    keys: U64Array
    counts: npt.NDArray[np.int64 | np.uint32] | None
    rows: npt.NDArray[np.int64 | np.uint32 | np.uint16]
    starts: I64Array
    add: I64Array

    def select(self, first: int, last: int) -> Piece:
        """Return a copy of the partitions from `first` up to `last`, numbered from 0."""
        chosen = [slice(starts[first], starts[last]) for starts in self.starts]
        lengths = [part.stop - part.start for part in chosen]
        moved = np.cumsum([0, *lengths])[:-1] - self.starts[:, first]
        return Piece(
            np.concatenate([self.keys[part] for part in chosen]),
            None if self.counts is None else np.concatenate([self.counts[p] for p in chosen]),
            np.concatenate([self.rows[part] for part in chosen]),
            self.starts[:, first : last + 1] + moved[:, None],
            self.add,
        )


class Scratch:
    """Memory that one task after the other fills anew: fresh memory is slow to get.

    Parameters
    ----------
    size : int
        Bytes. What nobody writes to takes no memory.
    """

    def __init__(self, size: int) -> None:
        self._memory = blocks(size)
        self._used = 0

    def clear(self) -> None:
        """Take all arrays back."""
        self._used = 0

    def array(self, length: int, dtype: npt.DTypeLike, words: int = 1) -> npt.NDArray[Any]:
        """Return an uninitialised array, of (length, words) elements if there are several words.

        It begins with a block, for files. What does not fit any more gets memory of its own.
        """
        size = length * words * np.dtype(dtype).itemsize
        start, stop = self._used, self._used + size
        if stop <= len(self._memory):
            self._used = stop + -stop % BLOCK
            array = self._memory[start:stop].view(dtype)
        else:
            array = blocks(size)[:size].view(dtype)
        return array if words == 1 else array.reshape(length, words)

    def room(
        self, size: int, words: int, dtype: npt.DTypeLike = np.int64
    ) -> tuple[U64Array, npt.NDArray[Any], npt.NDArray[Any]]:
        """Return uninitialised keys, counts and first rows, as `empty_room` does."""
        keys = self.array(size, np.uint64, words)
        return keys, self.array(size, dtype), self.array(size, dtype)


def lay_out(piece: Piece, scratch: Scratch | None = None) -> Piece:
    """Return a divided piece with each partition in one place, as a single chunk."""
    room = scratch or Scratch(0)
    first_row = int(piece.add[0]) if len(piece.add) else 0
    keys: U64Array = room.array(len(piece.keys), np.uint64, piece.keys.ndim)
    rows: npt.NDArray[np.uint32] = room.array(len(piece.keys), np.uint32)
    if len(keys):
        add = piece.add - first_row
        partitions.lay_out(frozen(piece.keys), frozen(piece.rows), add, piece.starts, keys, rows)
    starts = (piece.starts - piece.starts[:, :1]).sum(axis=0)
    return Piece(keys, None, rows, starts[None], np.array([first_row]))


def partition(counted: Counted, bits: int, first_row: int = 0) -> Piece:
    """Lay counted keys partition by partition; `first_row` is to be added to their rows."""
    keys, counts, rows = counted
    numbers = np.empty(len(keys), np.uint16)
    starts = np.empty((1 << bits) + 1, np.int64)
    partitions.partition_starts(frozen(keys), bits, numbers, starts)
    to = (np.empty_like(keys), np.empty_like(counts), np.empty_like(rows))
    partitions.scatter_counted(
        frozen(keys), frozen(counts), frozen(rows), numbers, starts[:-1].copy(), *to
    )
    return Piece(*to, starts[None], np.array([first_row]))


def entries(pieces: Sequence[Piece], first: int = 0, last: int = -1) -> int:
    """Return how many keys pieces hold of the partitions from `first` up to `last`."""
    return sum(int((piece.starts[:, last] - piece.starts[:, first]).sum()) for piece in pieces)


def part_of(counted: Counted, begin: int, end: int) -> Counted:
    """Return entries `begin` up to `end` of keys, counts and first rows."""
    keys, counts, rows = counted
    return keys[begin:end], counts[begin:end], rows[begin:end]


def empty_room(
    size: int, words: int, dtype: npt.DTypeLike = np.int64
) -> tuple[U64Array, npt.NDArray[Any], npt.NDArray[Any]]:
    """Return uninitialised keys of `words` words, counts and first rows for `size` states."""
    each = 8 * words + 2 * np.dtype(dtype).itemsize
    if size * each < HUGE:
        return empty_keys(size, words), np.empty(size, dtype), np.empty(size, dtype)
    return Scratch(size * each + 3 * BLOCK).room(size, words, dtype)


def merge_pieces(pieces: Sequence[Piece], first: int, last: int, room: Counted) -> int:
    """Add up the counts of equal keys, partition by partition.

    Parameters
    ----------
    pieces : sequence of Piece
        At least one, all with the same partitions, in the order of their rows.
    first, last : int
        The partitions from `first` up to `last` are merged.
    room : (keys, counts, rows)
        Filled from the start with the distinct keys, by partition,
        their counts and first rows. There must be room for all `entries`.

    Returns
    -------
    int
        How many distinct keys there are.
    """
    # The kernel is given addresses: `held` keeps what is there alive.
    held = [
        [None if part is None else frozen(part) for part in (piece.keys, piece.counts, piece.rows)]
        for piece in pieces
    ]
    addresses = [[0 if part is None else part.ctypes.data for part in parts] for parts in held]
    lengths = [len(piece.add) for piece in pieces]
    chunks = np.repeat(np.array(addresses), lengths, axis=0)
    add = np.concatenate([piece.add for piece in pieces])
    sizes = np.repeat([piece.rows.itemsize for piece in pieces], lengths)
    table = np.column_stack([chunks, add, sizes])
    starts = np.concatenate([piece.starts for piece in pieces])
    distinct = int(
        partitions.merge_partitions(*room, np.ascontiguousarray(table), starts, first, last)
    )
    if distinct >= 0:
        return distinct
    merged = merge_by_sorting(pieces, first, last)
    distinct = len(merged[0])
    for part, values in zip(room, merged, strict=True):
        part[:distinct] = values
    return distinct


def merged(pieces: Sequence[Piece]) -> Counted:
    """Merge all partitions, and return keys, counts and first rows."""
    piece = pieces[0]
    if len(pieces) == 1 and piece.counts is not None:
        return piece.keys, piece.counts.astype(np.int64), piece.rows + piece.add
    room = empty_room(entries(pieces), pieces[0].keys.ndim)
    return part_of(room, 0, merge_pieces(pieces, 0, pieces[0].starts.shape[1] - 1, room))


def merge_by_sorting(pieces: Sequence[Piece], first: int, last: int) -> Counted:
    """Do what `merge_pieces` does in a time that no input can stretch, though not the shortest."""
    chosen = [piece.select(first, last) for piece in pieces]
    keys = np.concatenate([piece.keys for piece in chosen])
    counts = np.concatenate(
        [
            np.ones(len(piece.keys), np.int64) if piece.counts is None else piece.counts
            for piece in chosen
        ]
    )
    add = [np.repeat(piece.add, piece.starts[:, -1] - piece.starts[:, 0]) for piece in chosen]
    rows = np.concatenate([piece.rows + more for piece, more in zip(chosen, add, strict=True)])
    order = canonical_order(keys)
    keys, counts, rows = keys[order], counts[order], rows[order]
    begins = np.flatnonzero(np.concatenate([[len(keys) > 0], changes(keys)]))
    return keys[begins], np.add.reduceat(counts, begins), np.minimum.reduceat(rows, begins)


def canonical_order(keys: U64Array) -> I64Array:
    """Return the permutation that sorts keys by mixed hash, and then by words."""
    hashes = mixed_hash(keys)
    order = np.argsort(hashes)
    in_order = hashes[order]
    if (in_order[1:] == in_order[:-1]).any():
        words = [keys] if keys.ndim == 1 else [keys[:, 1], keys[:, 0]]
        order = np.lexsort([*words, hashes])
    return order
