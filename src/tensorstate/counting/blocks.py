"""What the two kinds of tasks do: count a block of rows, and merge what blocks gave.

A block is counted in a hash table for as long as its states come back. If they turn out to be
mostly new, what the table holds is set aside and the rest of the block is only divided into
partitions: counting them is then left to the merge, which sees one partition of all blocks at a
time, in the processor's cache. The choice is made from the rows seen so far, block by block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tensorstate.counting import kernels, partitions
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

ROWS_AT_ONCE = 1 << 16
"""Rows whose keys are made and counted together: they fit the second-level cache."""

FIRST_BITS = 12
DECIDE_FROM_BITS = 16
"""A table of 2**16 slots has seen enough states to tell whether the rest will repeat them."""


ROWS_PER_PARTITION = 40_000
MOST_PARTITION_BITS = 10


def partition_bits(rows: int) -> int:
    """Return b such that ``2**b`` partitions of `rows` rows fit the processor's cache each."""
    return min(max(rows - 1, 0) // ROWS_PER_PARTITION, (1 << MOST_PARTITION_BITS) - 1).bit_length()


@dataclass(frozen=True)
class Piece:
    """Keys laid partition by partition.

    Attributes
    ----------
    keys : (n,) or (n, 2) uint64
        Not necessarily distinct.
    counts : (n,) int64, or None
        None: every count is 1.
    rows : (n,) int64, or uint32 where counts is None
        First rows, less `first_row`.
    first_row : int
        A number to add to `rows`.
    starts : (partitions + 1,) int64
        Where each partition starts.
    """

    keys: U64Array
    counts: I64Array | None
    rows: npt.NDArray[np.int64] | npt.NDArray[np.uint32]
    first_row: int
    starts: I64Array

    def select(self, first: int, last: int) -> Piece:
        """Return the partitions from `first` up to `last`, numbered from 0."""
        starts = self.starts[first : last + 1]
        part = slice(int(starts[0]), int(starts[-1]))
        counts = None if self.counts is None else self.counts[part]
        return Piece(self.keys[part], counts, self.rows[part], self.first_row, starts - starts[0])


def count_block(rows: Iterable[U8Array], width: int, first_row: int, bits: int) -> list[Piece]:
    """Count a block of rows, or divide it into partitions if its states are mostly new.

    Parameters
    ----------
    rows : iterable of (n, width) uint8 arrays
        The packed states of the block, in order; together fewer than 2**32 rows.
    width : int
        Bytes of a packed state.
    first_row : int
        Row number of the first.
    bits : int
        There are ``2**bits`` partitions.

    Returns
    -------
    list of Piece
        In the order of the rows that they count.
    """
    batches = _in_batches(rows)
    if width <= 2:
        return [partition(_count_addressed(batches, width), bits, first_row)]
    pieces: list[Piece] = []
    table: Table | None = Table(words_per_key(width))
    row = 0
    for batch in batches:
        keys = key_words(batch)
        used = table.count(keys, row) if table else 0
        if used < len(keys):
            if table:
                pieces.append(partition(table.unload(), bits, first_row))
                table = None
            pieces.append(scatter(keys[used:], bits, first_row + row + used))
        row += len(keys)
    if table:
        pieces.append(partition(table.unload(), bits, first_row))
    return pieces


class Table:
    """A growing hash table, which gives up when it keeps seeing new states.

    Parameters
    ----------
    words : int
        Words of a key.
    """

    def __init__(self, words: int) -> None:
        self._words = words
        self._bits = FIRST_BITS
        self._table = kernels.new_table(self._bits, words)
        self._distinct = 0

    def count(self, keys: U64Array, first_row: int) -> int:
        """Count keys, and return how many of them were counted: all, unless it gives up."""
        total: int = 0
        while True:
            self._distinct, used = kernels.insert(
                frozen(keys[total:]), self._table, self._bits, self._distinct, first_row + total
            )
            total += used
            if total == len(keys) or self._is_useless(first_row + total):
                return total
            self._grow()

    def _is_useless(self, rows: int) -> bool:
        collided = not kernels.is_full(len(self._table), self._distinct)
        mostly_new = self._bits >= DECIDE_FROM_BITS and 2 * self._distinct > rows
        return collided or mostly_new

    def unload(self) -> Counted:
        """Return the keys, counts and first rows in the table."""
        keys = empty_keys(self._distinct, self._words)
        counts = np.empty(self._distinct, np.int64)
        rows = np.empty(self._distinct, np.int64)
        kernels.unload(keys, counts, rows, self._table)
        return keys, counts, rows

    def _grow(self) -> None:
        keys, counts, rows = self.unload()
        self._bits += 2
        self._table = kernels.new_table(self._bits, self._words)
        kernels.reload(frozen(keys), frozen(counts), frozen(rows), self._table, self._bits)


def partition(counted: Counted, bits: int, first_row: int = 0) -> Piece:
    """Lay counted keys partition by partition; `first_row` is still to be added to their rows."""
    keys, counts, rows = counted
    starts = np.empty((1 << bits) + 1, np.int64)
    partitions.partition_starts(frozen(keys), bits, starts)
    to = (np.empty_like(keys), np.empty_like(counts), np.empty_like(rows))
    partitions.scatter_counted(
        frozen(keys), frozen(counts), frozen(rows), bits, starts[:-1].copy(), *to
    )
    return Piece(*to, first_row, starts)


def merge_pieces(pieces: Sequence[Piece]) -> Counted:
    """Add up the counts of equal keys, partition by partition.

    Parameters
    ----------
    pieces : sequence of Piece
        At least one, all with the same partitions.

    Returns
    -------
    keys, counts, rows
        The distinct keys, partition by partition, with their counts and first rows.
    """
    room = sum(len(piece.keys) for piece in pieces)
    keys = np.empty((room, *pieces[0].keys.shape[1:]), np.uint64)
    counts = np.empty(room, np.int64)
    rows = np.empty(room, np.int64)
    # The kernel is given addresses: `held` keeps what is there alive.
    held = [
        (
            frozen(piece.keys),
            None if piece.counts is None else frozen(piece.counts),
            frozen(piece.rows),
            piece.first_row,
        )
        for piece in pieces
    ]
    addresses = np.array(
        [
            (k.ctypes.data, 0 if c is None else c.ctypes.data, r.ctypes.data, first_row)
            for k, c, r, first_row in held
        ],
        np.int64,
    )
    starts = np.array([piece.starts for piece in pieces])
    last = len(pieces[0].starts) - 1
    distinct = partitions.merge_partitions(keys, counts, rows, addresses, starts, 0, last)
    if distinct < 0:
        return merge_by_sorting(pieces)
    return keys[:distinct], counts[:distinct], rows[:distinct]


def merge_by_sorting(pieces: Sequence[Piece]) -> Counted:
    """Do what `merge_pieces` does in a time that no input can stretch, though not the shortest."""
    keys = np.concatenate([piece.keys for piece in pieces])
    counts = np.concatenate(
        [
            np.ones(len(piece.keys), np.int64) if piece.counts is None else piece.counts
            for piece in pieces
        ]
    )
    rows = np.concatenate([piece.rows.astype(np.int64) + piece.first_row for piece in pieces])
    order = canonical_order(keys)
    keys, counts, rows = keys[order], counts[order], rows[order]
    different = keys[1:] != keys[:-1]
    if different.ndim == 2:
        different = different.any(axis=1)
    begins = np.concatenate([[0] if len(keys) else [], 1 + np.flatnonzero(different)])
    begins = begins.astype(np.int64)
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


def scatter(keys: U64Array, bits: int, first_row: int) -> Piece:
    """Lay the keys of consecutive rows partition by partition."""
    starts = np.empty((1 << bits) + 1, np.int64)
    partitions.partition_starts(frozen(keys), bits, starts)
    to_keys = np.empty(keys.shape, np.uint64)
    to_rows = np.empty(len(keys), np.uint32)
    partitions.scatter_rows(frozen(keys), bits, starts[:-1].copy(), to_keys, to_rows)
    return Piece(to_keys, None, to_rows, first_row, starts)


def _count_addressed(batches: Iterable[U8Array], width: int) -> Counted:
    counts = np.zeros(1 << (8 * width), np.int64)
    rows = np.empty_like(counts)
    row = 0
    for batch in batches:
        kernels.address(key_words(batch), counts, rows, row)
        row += len(batch)
    keys = np.flatnonzero(counts)
    return keys.astype(np.uint64), counts[keys], rows[keys]


def _in_batches(rows: Iterable[U8Array]) -> Iterator[U8Array]:
    for some in rows:
        for start in range(0, len(some), ROWS_AT_ONCE):
            yield some[start : start + ROWS_AT_ONCE]
