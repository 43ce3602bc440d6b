"""What map tasks do: count a block of rows.

A block is counted in a hash table for as long as its states come back. If they turn out to be
mostly new, what the table holds is set aside and the rest of the block is only divided into
partitions: counting them is then left to the merge, which sees one partition of all blocks at a
time, in the processor's cache. The choice is made from the rows seen so far, block by block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tensorstate.counting import kernels, partitions
from tensorstate.counting.claims import Claims, Turn
from tensorstate.counting.keys import (
    U8Array,
    U64Array,
    are_keys,
    empty_keys,
    frozen,
    key_words,
    words_per_key,
)
from tensorstate.counting.pages import HUGE, blocks
from tensorstate.counting.pieces import I64Array, Piece, Scratch, empty_room, partition

T = TypeVar("T", bound=np.generic)

ROWS_AT_ONCE = 1 << 18
MADE_AT_ONCE = 1 << 16
"""Rows that are counted together, and those whose keys have to be made, which stay in the cache."""

ADDRESSED_PLACES = 1 << 21
ADDRESSED_BYTES = 96 * ADDRESSED_PLACES
LEAST_ADDRESSED_ROWS = 1 << 20
"""So many rows of states that are mostly new, and all small numbers, as those of up to 21 neurons
are, are worth a place for each; and so much it takes, until they are laid partition by partition.
"""

LINE = 64
FIRST_BITS = 12
FEW_BITS = 16
MANY_BITS = 18
MOST_NEW = {FEW_BITS: 0.97, MANY_BITS: 0.75}
"""Which part of the rows since a table last grew may have been new, by the bits of its size: at
most half in larger tables, any in smaller ones. Few distinct states show early by repeats. Tables
below 2**18 slots grow fourfold, which moves their content less often."""


def count_block(
    batches: Iterable[U8Array],
    rows: int,
    width: int,
    first_row: int,
    bits: int,
    table_bytes: float = math.inf,
    scratch: Scratch | None = None,
    is_all: bool = False,
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
    is_all : bool
        Whether there is no other block: a single piece with counts then needs no partitions.

    Returns
    -------
    list of Piece
        At most two, in the order of the rows that they count.
    """
    return _count_batches(
        _Consecutive(batches, rows), width, first_row, bits, table_bytes, scratch, is_all
    )


def count_claims(claims: Claims, bits: int, table_bytes: float = math.inf) -> list[Piece]:
    """Count rows for as long as there are some to claim, as other threads do meanwhile.

    Parameters
    ----------
    claims : Claims
        Fewer than 2**32 rows.
    bits, table_bytes
        As for `count_block`.

    Returns
    -------
    list of Piece
        At least one.
    """
    pieces: list[Piece] = []
    while claims.left or not pieces:
        pieces += _count_batches(Turn(claims), claims.width, 0, bits, table_bytes)
    return pieces


class _Batches(Protocol):
    """Batches of rows, one after the other."""

    def __iter__(self) -> Iterator[tuple[int, U8Array]]:
        """Yield the number of a row, and (n, W) rows from that one on."""

    def rows_from(self, row: int) -> int:
        """Settle how many rows come from this row on, of the last batch; return that."""


@dataclass(frozen=True)
class _Consecutive:
    batches: Iterable[U8Array]
    rows: int

    def __iter__(self) -> Iterator[tuple[int, U8Array]]:
        row = 0
        for batch in self.batches:
            yield row, batch
            row += len(batch)

    def rows_from(self, row: int) -> int:
        return self.rows - row


def _count_batches(
    batches: _Batches,
    width: int,
    first_row: int,
    bits: int,
    table_bytes: float,
    scratch: Scratch | None = None,
    is_all: bool = False,
) -> list[Piece]:
    pieces: list[Piece] = []
    words = words_per_key(width)
    counter: Addresses | Table | Divided
    counter = Addresses(1 << 8 * width) if width <= 2 else Table(words, table_bytes)
    room = empty_keys(0, words)
    for row, batch in _in_chunks(batches, ROWS_AT_ONCE if are_keys(width) else MADE_AT_ONCE):
        if len(batch) > len(room):
            room = empty_keys(len(batch), words)
        keys = key_words(batch, room)
        used = counter.count(keys, row)
        while used < len(keys):
            counted = counter.piece(bits, first_row)
            left = batches.rows_from(row + used)
            if isinstance(counter, Table) and _is_worth_addresses(counted, left, table_bytes):
                counter = Addresses(ADDRESSED_PLACES, counted)
            else:
                pieces.append(counted)
                counter = Divided(left, words, bits, scratch)
            used += counter.count(keys[used:], row + used)
    # A single piece needs no partitions, unless it is to be counted yet.
    alone = is_all and not pieces and not isinstance(counter, Divided)
    pieces.append(counter.piece(0 if alone else bits, first_row))
    return pieces


def table_bytes(bits: int, words: int) -> int:
    """Return the most memory that a table of ``2**bits`` slots takes, from growth to unloading."""
    # While it grows there is one of half its size too, and when it is unloaded, as its slots
    # are half taken at most, entries of less than a half of its size; and four bytes a slot.
    return (1 << bits) * (24 * words + 4)


class Addresses:
    """Counts of short states in a place for each.

    Parameters
    ----------
    places : int
        How many: all keys below that can be counted.
    counted : Piece, optional
        What a table has counted of the same block.
    """

    def __init__(self, places: int, counted: Piece | None = None) -> None:
        self._table = np.zeros(places, np.uint64)
        if counted is not None:
            kernels.load_addresses(counted.keys, counted.counts, counted.rows, self._table)

    def count(self, keys: U64Array, first_row: int) -> int:
        """Count keys, and return how many of them were counted: all, unless one has no place."""
        return int(kernels.address(keys, self._table, first_row))

    def piece(self, bits: int, first_row: int) -> Piece:
        """Return what was counted, by partition; `first_row` is to be added to its rows."""
        distinct = int(np.count_nonzero(self._table))
        keys = np.empty(distinct + 1, np.uint64)
        counts, rows = (np.empty(distinct + 1, np.uint32) for _ in range(2))
        kernels.unload_addresses(self._table, keys, counts, rows)
        if bits == 0:
            starts = np.array([[0, distinct]])
            return Piece(keys[:-1], counts[:-1], rows[:-1], starts, np.array([first_row]))
        counted = keys[:-1], counts[:-1].astype(np.int64), rows[:-1].astype(np.int64)
        return partition(counted, bits, first_row)


def _is_worth_addresses(counted: Piece, rows: int, most_bytes: float) -> bool:
    """Whether to go on with a place for each state, after what a table has counted."""
    return (
        counted.keys.ndim == 1
        and counted.keys.max(initial=np.uint64(0)) < ADDRESSED_PLACES
        and rows >= LEAST_ADDRESSED_ROWS
        and most_bytes >= ADDRESSED_BYTES
    )


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
        self._distinct = self._distinct_before = 0
        self._rows = self._rows_before = 0
        self._renew()

    def _renew(self) -> None:
        self._table = _aligned_zeros(2 * self._words << self._bits).reshape(-1, 2 * self._words)

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
            self._rows += used
            if total == len(keys) or self._is_useless():
                return total
            if table_bytes(self._next_bits(), self._words) > self._most_bytes:
                return total
            self._grow()

    def _is_useless(self) -> bool:
        if not kernels.is_full(len(self._table), self._distinct):
            return True  # too many collisions
        new = self._distinct - self._distinct_before
        limit = MOST_NEW.get(self._bits, 0.5)
        return self._bits >= FEW_BITS and new > limit * (self._rows - self._rows_before)

    def _next_bits(self) -> int:
        return self._bits + (2 if self._bits < MANY_BITS else 1)

    def _grow(self) -> None:
        self._distinct_before, self._rows_before = self._distinct, self._rows
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
        keys, counts, rows = empty_room(self._distinct, self._words, np.uint32)
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

    def count(self, keys: U64Array, first_row: int) -> int:
        """Divide the keys of consecutive rows, and return how many they were."""
        for row, chunk in _in_chunks([(first_row, keys)], partitions.CHUNK_ROWS):
            self._append_chunk(frozen(chunk), row)
        return len(keys)

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

    def piece(self, bits: int, first_row: int) -> Piece:
        """Return what was divided; `first_row` is to be added to its rows."""
        return Piece(
            self._keys[: self._used],
            None,
            self._rows[: self._used],
            np.array(self._starts),
            np.array(self._add) + first_row,
        )


def _aligned_zeros(length: int) -> U64Array:
    """Return zeros that begin with a cache line, so that no slot of a table lies in two."""
    if 8 * length >= HUGE:
        return blocks(8 * length).view(np.uint64)
    room = np.zeros(length + LINE // 8, np.uint64)
    start = -room.ctypes.data % LINE // 8
    return room[start : start + length]


def _in_chunks(
    arrays: Iterable[tuple[int, npt.NDArray[T]]], length: int
) -> Iterator[tuple[int, npt.NDArray[T]]]:
    for row, array in arrays:
        for start in range(0, len(array), length):
            yield row + start, array[start : start + length]
