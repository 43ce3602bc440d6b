"""Hash tables, and direct addressing, for states that come back often.

A table is one array, so that a look-up touches one cache line: (slots, 2) uint64 for keys of one
word and (slots, 4) for keys of two. A slot is the key, followed by one word with the count in
its low half and the first row in its high half (and by a spare word after keys of two). A count
of 0 marks a free slot. Collisions go to the next slot.

The slot of a key is told by the top bits of its mixed hash, as its partition is: read from
beginning to end, a table is in the order of the partitions, but for a few collisions.

Rows are looked up 128 at a time: the slots of all are prefetched before the first is read, so
that cache misses overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from tensorstate.compiled import kernel
from tensorstate.counting.keys import copy_key, hash_at, hash_in_slot, same_key
from tensorstate.intrinsics import prefetch

AHEAD = 128
"""Rows that are prefetched together."""

KEYS_AHEAD = 256
"""How far ahead keys are prefetched: where several are handled at once the processor does not
notice that they are read in order."""

COLLISIONS_PER_KEY = 8
"""So many steps to a further slot, for each key, tell that keys collide by more than chance."""

_FREE = np.uint64(0)
_ONE = np.uint64(1)
_ROW_SHIFT = np.uint64(32)
_COUNT_MASK = np.uint64(0xFFFFFFFF)


@register_jitable(inline="always")
def is_full(slots: int, taken: int) -> bool:
    """Whether a table may pass half of its slots with the next batch of rows."""
    return bool(2 * (taken + AHEAD) > slots)


@kernel
def insert(keys: Any, table: Any, bits: int, distinct: int, first_row: int) -> Any:
    """Count keys in a table until they end or the table is full.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Keys of rows first_row, first_row + 1, ...; row numbers are below 2**32.
    table : (2**bits, 2) or (2**bits, 4) uint64
        Changed in place.
    bits, distinct : int
        Size of the table, and how many of its slots are taken.
    first_row : int
        Row number of the first key.

    Returns
    -------
    distinct, used : int
        Slots that are taken now, and how many keys were counted: fewer than n if the table is
        full, or if it is not, but too many keys collide.
    """
    info = keys.ndim
    mask = (_ONE << np.uint64(bits)) - _ONE
    shift = np.uint64(64 - bits)
    slots = np.empty(AHEAD, np.uint64)
    end = np.uint64(len(keys))
    taken = np.uint64(distinct)
    used = np.uint64(0)
    patience = COLLISIONS_PER_KEY * (len(keys) + 1024)
    while used < end and patience > 0 and not is_full(len(table), np.intp(taken)):
        batch = min(np.uint64(AHEAD), end - used)
        for q in range(np.uint64(0), batch, np.uint64(4)):
            prefetch(keys, np.intp(used + q) + KEYS_AHEAD)
        for q in range(batch):
            slot = hash_at(keys, used + q) >> shift
            slots[q] = slot
            prefetch(table, np.intp(slot))
        for q in range(batch):
            slot = slots[q]
            while True:
                seen = table[slot, info]
                if seen == _FREE:
                    copy_key(keys, used + q, table, slot)
                    table[slot, info] = (np.uint64(first_row) + used + q) << _ROW_SHIFT | _ONE
                    taken += _ONE
                    break
                if same_key(keys, used + q, table, slot):
                    table[slot, info] = seen + _ONE
                    break
                slot = (slot + _ONE) & mask
                patience -= 1
        used += batch
    return np.intp(taken), np.intp(used)


@kernel
def find_taken(keys: Any, table: Any, slots: Any) -> None:
    """List the taken slots of a table.

    Parameters
    ----------
    keys : 1-d or 2-d uint64
        Only tells whether keys have one word or two.
    table : (2**b, 2) or (2**b, 4) uint64
        As `insert` left it.
    slots : (distinct + 1,) uint32
        Filled with their numbers, ascending, and one that means nothing.
    """
    info = keys.ndim
    found = np.uint64(0)
    for i in range(np.uint64(len(table))):
        # No branch: which slots are taken cannot be foretold.
        slots[found] = np.uint32(i)
        found += np.uint64(table[i, info] != _FREE)


@kernel
def move(keys: Any, table: Any, slots: Any, larger: Any, bits: int) -> None:
    """Copy the taken slots of a table, as `find_taken` lists them, to one of ``2**bits`` slots."""
    info = keys.ndim
    mask = (_ONE << np.uint64(bits)) - _ONE
    shift = np.uint64(64 - bits)
    for i in range(np.uint64(len(slots) - 1)):
        old = np.uint64(slots[i])
        slot = hash_in_slot(keys, table, old) >> shift
        while larger[slot, info] != _FREE:
            slot = (slot + _ONE) & mask
        for word in range(2 * info):
            larger[slot, word] = table[old, word]


@kernel
def unload(
    keys: Any, counts: Any, rows: Any, table: Any, slots: Any, bits: int, starts: Any
) -> None:
    """Write the taken slots of a table to dense arrays, partition by partition.

    Parameters
    ----------
    keys : (distinct,) or (distinct, 2) uint64
        Filled, as are `counts` and `rows`.
    counts, rows : (distinct,) uint32
        How often, and in which row first.
    table, slots
        The table, and what `find_taken` lists of it.
    bits : int
        There are ``2**bits`` partitions.
    starts : (2**bits + 1,) int64
        Filled: where each partition starts; the last is the number of taken slots.
    """
    info = keys.ndim
    # Two shifts: one of 64 bits, for a single partition, is undefined.
    shift = np.uint64(63 - bits)
    starts[:] = 0
    for i in range(np.uint64(len(slots) - 1)):
        number = (hash_in_slot(keys, table, np.uint64(slots[i])) >> _ONE) >> shift
        starts[number + _ONE] += 1
    for p in range(_ONE, np.uint64(len(starts))):
        starts[p] += starts[p - _ONE]
    places = starts[:-1].copy()
    for i in range(np.uint64(len(slots) - 1)):
        slot = np.uint64(slots[i])
        number = (hash_in_slot(keys, table, slot) >> _ONE) >> shift
        place = np.uint64(places[number])
        places[number] = np.int64(place + _ONE)
        copy_key(table, slot, keys, place)
        seen = table[slot, info]
        counts[place] = np.uint32(seen & _COUNT_MASK)
        rows[place] = np.uint32(seen >> _ROW_SHIFT)


@kernel
def address(keys: Any, table: Any, first_row: int) -> Any:
    """Count keys that are small integers in a table with a place for each.

    Parameters
    ----------
    keys : (n,) uint64
        Keys of rows first_row, first_row + 1, ...; row numbers are below 2**32.
    table : (places,) uint64
        Changed in place: the count in the low half of a word, and the first row in the high half.

    Returns
    -------
    int
        How many keys were counted: fewer than n if the next one has no place.
    """
    end = np.uint64(len(keys))
    places = np.uint64(len(table))
    for start in range(np.uint64(0), end, np.uint64(AHEAD)):
        stop = min(start + np.uint64(AHEAD), end)
        for i in range(start, stop):
            prefetch(table, np.intp(min(keys[i], places)))
        for i in range(start, stop):
            key = keys[i]
            if key >= places:
                return np.intp(i)
            seen = table[key]
            if seen == _FREE:
                seen = (np.uint64(first_row) + i) << _ROW_SHIFT
            table[key] = seen + _ONE
    return np.intp(end)


@kernel
def load_addresses(keys: Any, counts: Any, rows: Any, table: Any) -> None:
    """Enter keys that have a place each, with their counts and first rows (uint32)."""
    for i in range(np.uint64(len(keys))):
        table[keys[i]] = np.uint64(rows[i]) << _ROW_SHIFT | np.uint64(counts[i])


@kernel
def unload_addresses(table: Any, keys: Any, counts: Any, rows: Any) -> Any:
    """Write the words of a table that `address` filled and that are not 0, in ascending order.

    Parameters
    ----------
    table : (places,) uint64
        As `address` left it.
    keys : (distinct + 1,) uint64
        Filled but for the last, as are `counts` and `rows`.
    counts, rows : (distinct + 1,) uint32
        How often, and in which row first.
    """
    found = np.uint64(0)
    for key in range(np.uint64(len(table))):
        # No branch: which places are taken cannot be foretold.
        seen = table[key]
        keys[found] = key
        counts[found] = np.uint32(seen & _COUNT_MASK)
        rows[found] = np.uint32(seen >> _ROW_SHIFT)
        found += np.uint64(seen != _FREE)


@kernel
def count_counts(counts: Any, bins: Any) -> Any:
    """Add to ``bins[c]`` how many counts are c, for each c below the length of `bins`.

    Parameters
    ----------
    counts : (n,) int64
    bins : (m,) int64
        Changed in place.

    Returns
    -------
    int
        How many counts are too large for `bins`, or negative.
    """
    ones = large = 0
    for i in range(np.uint64(len(counts))):
        count = np.uint64(counts[i])
        if count == _ONE:  # most of them as a rule, and no place to wait for
            ones += 1
        elif count < np.uint64(len(bins)):
            bins[count] += 1
        else:
            large += 1
    bins[1] += ones
    return large
