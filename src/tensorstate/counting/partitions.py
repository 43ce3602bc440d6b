"""Radix partitions, for states that are mostly new, and the merge of what was counted.

The top bits of a key's mixed hash tell its partition. Keys are copied partition by partition,
and a partition that fits the processor's cache is then counted in a dense table: the output
arrays in the order in which the keys came, and four bytes a slot, which hold the place of a key
in them.

Rows are divided 65,536 at a time into buffers that stay in the cache, and copied from there in
one stream: memory is slow to write at hundreds of places in turn. For a file they are copied
once more, so that each partition of a block is in one place.

Indices are unsigned throughout: Numba lets signed ones count from the end, which takes time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from tensorstate.compiled import kernel
from tensorstate.counting.kernels import KEYS_AHEAD
from tensorstate.counting.keys import copy_key, hash_at, keys_at, same_key
from tensorstate.intrinsics import load16, load32, load64, prefetch, prefetch_at

CHUNK_ROWS = 1 << 16
"""Rows that are divided together, so that two bytes tell which of them a key belongs to."""

LARGEST_START = 18
"""A dense table starts with at most 2**18 slots (1 MiB, for the cache) and grows if it must."""

# The slot is taken from all bits of the hash, not from its top bits: those are alike for all
# keys of a partition.
SLOT_MULTIPLIER = np.uint64(0xC2B2AE3D27D4EB4F)

SLOTS_PER_KEY = 4
COLLISIONS_PER_KEY = 16
"""So many steps to a further slot, for each key, tell that keys collide by more than chance."""

_ONE = np.uint64(1)
_FREE = np.uint32(0)


@kernel
def partition_starts(keys: Any, bits: int, numbers: Any, starts: Any) -> None:
    """Find the partition of each key, and where the partitions start when laid end to end.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Keys in any order.
    bits : int
        There are ``2**bits`` partitions.
    numbers : (at least n,) uint16
        Filled with the partition of each key.
    starts : (2**bits + 1,) int64
        Filled; the last is n.
    """
    # Two shifts: one of 64 bits, for a single partition, is undefined.
    shift = np.uint64(63 - bits)
    starts[:] = 0
    for i in range(np.uint64(len(keys))):
        prefetch(keys, np.intp(i) + KEYS_AHEAD)
        number = (hash_at(keys, i) >> _ONE) >> shift
        numbers[i] = np.uint16(number)
        starts[number + _ONE] += 1
    for p in range(_ONE, np.uint64(len(starts))):
        starts[p] += starts[p - _ONE]


@kernel
def scatter_rows(keys: Any, numbers: Any, places: Any, to_keys: Any, to_rows: Any) -> None:
    """Copy keys partition by partition, each with its place among `keys`.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Keys of at most 65,536 consecutive rows.
    numbers : (at least n,) uint16
        The partition of each.
    places : (2**bits,) int64
        Where each partition starts; changed to where it ends.
    to_keys : (at least n,) or (at least n, 2) uint64
        Filled.
    to_rows : (at least n,) uint16
        Filled.
    """
    for i in range(np.uint64(len(keys))):
        number = np.uint64(numbers[i])
        place = np.uint64(places[number])
        copy_key(keys, i, to_keys, place)
        to_rows[place] = np.uint16(i)
        places[number] = np.int64(place + _ONE)


@kernel
def scatter_counted(
    keys: Any,
    counts: Any,
    rows: Any,
    numbers: Any,
    places: Any,
    to_keys: Any,
    to_counts: Any,
    to_rows: Any,
) -> None:
    """Copy keys partition by partition, each with its count and first row (all int64).

    The parameters are those of `scatter_rows`.
    """
    for i in range(np.uint64(len(keys))):
        number = np.uint64(numbers[i])
        place = np.uint64(places[number])
        copy_key(keys, i, to_keys, place)
        to_counts[place] = counts[i]
        to_rows[place] = rows[i]
        places[number] = np.int64(place + _ONE)


@kernel
def lay_out(keys: Any, rows: Any, add: Any, starts: Any, to: Any, to_rows: Any) -> None:
    """Copy keys that were divided chunk by chunk so that each partition is in one place.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Keys of chunks that follow each other, each laid partition by partition.
    rows : (n,) uint16
        Row numbers within the chunk.
    add : (chunks,) int64
        Number of the first row of each chunk.
    starts : (chunks, partitions + 1) int64
        Where each partition of each chunk starts.
    to : (at least n,) or (at least n, 2) uint64
        Filled with the keys.
    to_rows : (at least n,) uint32
        Filled with their row numbers.
    """
    done = np.uint64(0)
    last = np.uint64(len(keys) - 1)
    for p in range(starts.shape[1] - 1):
        for c in range(len(add)):
            end = np.uint64(starts[c, p + 1])
            for i in range(np.uint64(starts[c, p]), end):
                copy_key(keys, i, to, done)
                to_rows[done] = np.uint32(np.int64(rows[i]) + add[c])
                done += _ONE
            # The next partition follows, but many chunks come before it.
            prefetch(keys, np.intp(min(end, last)))
            prefetch(keys, np.intp(min(end + np.uint64(4), last)))
            prefetch(rows, np.intp(min(end, last)))


@register_jitable
def number_at(address: Any, i: Any, size: Any) -> Any:
    """Return the i-th of the unsigned integers of `size` bytes (2, 4 or 8) at an address."""
    if size == 2:
        return load16(address + np.uint64(2) * i)
    if size == 4:
        return load32(address + np.uint64(4) * i)
    return load64(address + np.uint64(8) * i)


@register_jitable
def absorb(
    piece: Any,
    times: Any,
    piece_rows: Any,
    size: Any,
    add: Any,
    i: Any,
    end: Any,
    keys: Any,
    counts: Any,
    rows: Any,
    begin: Any,
    done: Any,
    slots: Any,
    bits: Any,
    place_mask: Any,
    patience: Any,
) -> Any:
    """Count keys i, i + 1, ... up to `end` of a piece until the dense table is half full.

    `times` and `piece_rows` are addresses of integers of `size` bytes; `times` is 0 where every
    count is 1. Returns the next i, how many keys there are in all, and what is left of the
    patience with collisions.
    """
    shift = np.uint64(64 - bits)
    mask = (_ONE << np.uint64(bits)) - _ONE
    enough = begin + (_ONE << np.uint64(bits - 1))
    while i < end and done < enough and patience >= 0:
        hashed = hash_at(piece, i)
        tag = np.uint32(hashed) & ~place_mask
        slot = (hashed * SLOT_MULTIPLIER) >> shift
        row = np.int64(number_at(piece_rows, i, size)) + add
        count = np.int64(1)
        if times != 0:
            count = np.int64(number_at(times, i, size))
        while True:
            entry = slots[slot]
            if entry == _FREE:
                copy_key(piece, i, keys, done)
                counts[done] = count
                rows[done] = row
                done += _ONE
                slots[slot] = tag | np.uint32(done - begin)
                break
            if entry & ~place_mask == tag:
                place = begin + np.uint64(entry & place_mask) - _ONE
                if same_key(piece, i, keys, place):
                    counts[place] += count
                    rows[place] = min(rows[place], row)
                    break
            slot = (slot + _ONE) & mask
            patience -= 1
        i += _ONE
    return i, done, patience


@register_jitable
def fill(slots: Any, keys: Any, begin: Any, done: Any, bits: Any, place_mask: Any) -> None:
    """Enter keys `begin` up to `done`, which are distinct, into an empty dense table."""
    shift = np.uint64(64 - bits)
    mask = (_ONE << np.uint64(bits)) - _ONE
    for place in range(begin, done):
        hashed = hash_at(keys, place)
        slot = (hashed * SLOT_MULTIPLIER) >> shift
        while slots[slot] != _FREE:
            slot = (slot + _ONE) & mask
        tag = np.uint32(hashed) & ~place_mask
        slots[slot] = tag | np.uint32(place - begin + _ONE)


@register_jitable
def prefetch_start(keys: Any, pieces: Any, starts: Any, k: Any, p: Any) -> None:
    """Ask for the first kilobyte of keys, and their rows, of partition `p` of piece `k`.

    A partition of a piece is too short for the processor to notice that it is read in order.
    """
    if k < len(pieces):
        start = np.uint64(starts[k, p])
        for line in range(np.uint64(0), np.uint64(1024), np.uint64(64)):
            prefetch_at(np.uint64(pieces[k, 0]) + np.uint64(8 * keys.ndim) * start + line)
        for line in range(np.uint64(0), np.uint64(256), np.uint64(64)):
            prefetch_at(np.uint64(pieces[k, 2]) + np.uint64(2) * start + line)


@kernel
def merge_partitions(
    keys: Any, counts: Any, rows: Any, pieces: Any, starts: Any, first: int, last: int
) -> Any:
    """Count what several pieces hold of the partitions from `first` up to `last`.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Filled from the start with the distinct keys, partition by partition, and as they come
        within a partition. There must be room for all entries of the pieces.
    counts, rows : (n,) int64
        Filled likewise with the sums of the counts and the smallest row numbers.
    pieces : (k, 5) int64
        Of each piece: the addresses of its keys, of its counts (0: every count is 1) and of its
        row numbers, a number to add to the row numbers, and the bytes of a count or row number.
    starts : (k, partitions + 1) int64
        Where each partition of each piece starts.
    first, last : int
        Which partitions.

    Returns
    -------
    distinct : int
        How many keys there are, or -1 if too many of them collide.
    """
    slots = np.empty(1 << LARGEST_START, np.uint32)
    patience = COLLISIONS_PER_KEY * (len(counts) + 1024)
    done = np.uint64(0)
    for p in range(first, last):
        total = 0
        for k in range(len(pieces)):
            total += starts[k, p + 1] - starts[k, p]
        bits = 4
        while bits < LARGEST_START and (1 << bits) < SLOTS_PER_KEY * total:
            bits += 1
        slots[: 1 << bits] = _FREE
        # A slot is the place of its key in the partition, from 1, and above it bits of the
        # hash: most keys that differ are told apart without a look at the key.
        place_bits = 1
        while place_bits < 32 and (1 << place_bits) <= total:
            place_bits += 1
        place_mask = np.uint32((1 << place_bits) - 1)
        begin = done
        for k in range(len(pieces)):
            i = np.uint64(starts[k, p])
            end = np.uint64(starts[k, p + 1])
            piece = keys_at(keys, pieces[k, 0], np.int64(end))
            prefetch_start(keys, pieces, starts, k + 1, p)
            while i < end:
                i, done, patience = absorb(
                    piece,
                    np.uint64(pieces[k, 1]),
                    np.uint64(pieces[k, 2]),
                    pieces[k, 4],
                    pieces[k, 3],
                    i,
                    end,
                    keys,
                    counts,
                    rows,
                    begin,
                    done,
                    slots,
                    bits,
                    place_mask,
                    patience,
                )
                if patience < 0:
                    return -1
                if i < end:
                    bits += 2
                    slots = np.zeros(max(len(slots), 1 << bits), np.uint32)
                    fill(slots, keys, begin, done, bits, place_mask)
    return np.int64(done)
