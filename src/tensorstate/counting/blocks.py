"""What the two kinds of tasks do: count a block of rows, and merge what blocks gave.

A block is counted in a hash table for as long as its states come back. If they turn out to be
mostly new, what the table holds is set aside and the rest of the block is only divided into
partitions: counting them is then left to the merge, which sees one partition of all blocks at a
time, in the processor's cache. The choice is made from the rows seen so far, block by block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from tensorstate.counting import kernels, partitions
from tensorstate.counting.files import BLOCK, blocks
from tensorstate.counting.keys import (
    U8Array,
    U64Array,
    empty_keys,
    frozen,
    key_words,
    mixed_hash,
    words_per_key,
)

I64Array: TypeAlias = npt.NDArray[np.int64]
Counted: TypeAlias = tuple[U64Array, I64Array, I64Array]
"""Distinct keys, their counts and the first row of each."""

T = TypeVar("T", bound=np.generic)

ROWS_AT_ONCE = 1 << 17
"""Rows whose keys are made together."""

FIRST_BITS = 12
FEW_BITS = 16
MOST_NEW = {16: 0.97, 17: 0.85, 18: 0.7}
"""Which part of the rows since a table last grew may have been new, by the bits of its size: at
most half in larger tables, any in smaller ones. Few distinct states show early by repeats."""

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


def count_block(
    batches: Iterable[U8Array],
    rows: int,
    width: int,
    first_row: int,
    bits: int,
    table_bytes: float = math.inf,
    scratch: Scratch | None = None,
) -> list[Piece]:
    """Count a block of rows, or divide it into partitions if its states are mostly new.

    Parameters
    ----------
    batches : iterable of (n, width) uint8 arrays
        The packed states of the block, in order.
    rows : int
        How many rows they have in all, fewer than 2**32.
    width : int
        Bytes of a packed state.
    first_row : int
        Row number of the first.
    bits : int
        There are ``2**bits`` partitions.
    table_bytes : float
        A hash table that would take more memory than this gives up.
    scratch : Scratch, optional
        Where rows that are only divided are put; without it, in memory of their own.

    Returns
    -------
    list of Piece
        At most two, in the order of the rows that they count.
    """
    pieces: list[Piece] = []
    words = words_per_key(width)
    table: Addresses | Table | None
    table = Addresses(width) if width <= 2 else Table(words, table_bytes)
    divided: Divided | None = None
    room = empty_keys(min(rows, ROWS_AT_ONCE), words)
    row = 0
    for batch in _in_chunks(batches, ROWS_AT_ONCE):
        keys = key_words(batch, room)
        used = table.count(keys, row) if table else 0
        if used < len(keys):
            if table:
                pieces.append(table.piece(bits, first_row))
                table = None
            if not divided:
                divided = Divided(rows - row - used, words, bits, scratch)
            divided.append(keys[used:], first_row + row + used)
        row += len(keys)
    if table:
        pieces.append(table.piece(bits, first_row))
    if divided:
        pieces.append(divided.piece())
    return pieces


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


def table_bytes(bits: int, words: int) -> int:
    """Return the most memory that a table of ``2**bits`` slots takes, from growth to unloading."""
    # While it grows there is one of half its size too, and when it is unloaded, as its slots
    # are half taken at most, entries of less than a half of its size; and four bytes a slot.
    return (1 << bits) * (24 * words + 4)


class Addresses:
    """Counts of states of one or two bytes, in a place for each.

    Parameters
    ----------
    width : int
        Bytes of a state.
    """

    def __init__(self, width: int) -> None:
        self._counts = np.zeros(1 << (8 * width), np.int64)
        self._rows = np.empty_like(self._counts)

    def count(self, keys: U64Array, first_row: int) -> int:
        """Count keys, and return how many of them were counted: all."""
        kernels.address(keys, self._counts, self._rows, first_row)
        return len(keys)

    def piece(self, bits: int, first_row: int) -> Piece:
        """Return what was counted, by partition; `first_row` is to be added to its rows."""
        keys = np.flatnonzero(self._counts)
        keys = keys[np.argsort(self._rows[keys])]
        counted = keys.astype(np.uint64), self._counts[keys], self._rows[keys]
        return partition(counted, bits, first_row)


class Table:
    """A growing hash table, which gives up when it keeps seeing new states.

    Parameters
    ----------
    words : int
        Words of a key.
    most_bytes : float
        Memory that it may take, with what it takes to grow and to unload it.
    """

    def __init__(self, words: int, most_bytes: float = math.inf) -> None:
        self._words = words
        self._most_bytes = most_bytes
        self._bits = FIRST_BITS
        self._distinct = self._distinct_before = self._rows_before = 0
        self._renew()

    def _renew(self) -> None:
        self._table = np.zeros((1 << self._bits, 2 * self._words), np.uint64)

    def count(self, keys: U64Array, first_row: int) -> int:
        """Count keys, and return how many of them were counted: all, unless it gives up."""
        total: int = 0
        while True:
            self._distinct, used = kernels.insert(
                frozen(keys[total:]),
                self._table,
                self._bits,
                self._distinct,
                first_row + total,
            )
            total += used
            if total == len(keys) or self._is_useless(first_row + total):
                return total
            if table_bytes(self._next_bits(), self._words) > self._most_bytes:
                return total
            self._grow(first_row + total)

    def _is_useless(self, rows: int) -> bool:
        if not kernels.is_full(len(self._table), self._distinct):
            return True  # too many collisions
        new = self._distinct - self._distinct_before
        limit = MOST_NEW.get(self._bits, 0.5)
        return self._bits >= FEW_BITS and new > limit * (rows - self._rows_before)

    def _next_bits(self) -> int:
        return self._bits + (2 if self._bits < FEW_BITS else 1)

    def _grow(self, rows: int) -> None:
        self._distinct_before, self._rows_before = self._distinct, rows
        self._bits = self._next_bits()
        smaller, slots = self._table, self._taken()
        self._renew()
        kernels.move(empty_keys(0, self._words), smaller, slots, self._table, self._bits)

    def _taken(self) -> npt.NDArray[np.uint32]:
        slots = np.empty(self._distinct + 1, np.uint32)
        kernels.find_taken(empty_keys(0, self._words), self._table, slots)
        return slots

    def piece(self, bits: int, first_row: int) -> Piece:
        """Return what was counted, by partition; `first_row` is to be added to its rows."""
        keys = empty_keys(self._distinct, self._words)
        counts, rows = (np.empty(self._distinct, np.uint32) for _ in range(2))
        starts = np.empty((1 << bits) + 1, np.int64)
        kernels.unload(keys, counts, rows, self._table, self._taken(), bits, starts)
        return Piece(keys, counts, rows, starts[None], np.array([first_row]))


class Divided:
    """Rows that are divided into partitions and not counted.

    Parameters
    ----------
    rows : int
        How many there will be.
    words : int
        Words of a key.
    bits : int
        There are ``2**bits`` partitions.
    scratch : Scratch, optional
        Where they are put; without it, in memory of their own.
    """

    def __init__(self, rows: int, words: int, bits: int, scratch: Scratch | None = None) -> None:
        room = scratch or Scratch(0)
        self._keys: U64Array = room.array(rows, np.uint64, words)
        self._rows: npt.NDArray[np.uint16] = room.array(rows, np.uint16)
        self._starts: list[I64Array] = []
        self._add: list[int] = []
        self._bits = bits
        self._used = 0
        size = partitions.CHUNK_ROWS
        self._numbers = np.empty(size, np.uint16)
        self._chunk = (empty_keys(size, words), np.empty(size, np.uint16))

    def append(self, keys: U64Array, first_row: int) -> None:
        """Divide the keys of consecutive rows."""
        for chunk in _in_chunks([keys], partitions.CHUNK_ROWS):
            self._append_chunk(frozen(chunk), first_row)
            first_row += len(chunk)

    def _append_chunk(self, keys: U64Array, first_row: int) -> None:
        starts = np.empty((1 << self._bits) + 1, np.int64)
        partitions.partition_starts(keys, self._bits, self._numbers, starts)
        partitions.scatter_rows(keys, self._numbers, starts[:-1].copy(), *self._chunk)
        end = self._used + len(keys)
        self._keys[self._used : end] = self._chunk[0][: len(keys)]
        self._rows[self._used : end] = self._chunk[1][: len(keys)]
        self._starts.append(starts + self._used)
        self._add.append(first_row)
        self._used = end

    def piece(self) -> Piece:
        """Return what was appended."""
        return Piece(
            self._keys[: self._used],
            None,
            self._rows[: self._used],
            np.array(self._starts),
            np.array(self._add),
        )


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


def empty_room(size: int, words: int) -> Counted:
    """Return uninitialised keys of `words` words, counts and first rows for `size` states."""
    return empty_keys(size, words), np.empty(size, np.int64), np.empty(size, np.int64)


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
    kinds = np.repeat([_kind(piece) for piece in pieces], lengths)
    table = np.column_stack([chunks, np.concatenate([piece.add for piece in pieces]), kinds])
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


def _kind(piece: Piece) -> int:
    if piece.counts is None:
        return partitions.CHUNKED if piece.rows.dtype == np.uint16 else partitions.LAID_OUT
    return partitions.COUNTED if piece.counts.dtype == np.uint32 else partitions.MERGED


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
    different = keys[1:] != keys[:-1]
    if different.ndim == 2:
        different = different.any(axis=1)
    begins = np.flatnonzero(np.concatenate([[len(keys) > 0], different]))
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


def _in_chunks(arrays: Iterable[npt.NDArray[T]], length: int) -> Iterator[npt.NDArray[T]]:
    for array in arrays:
        for start in range(0, len(array), length):
            yield array[start : start + length]
