"""Hash tables, and direct addressing, for states that come back often.

A table is one array, so that a look-up touches one cache line: (slots, 2) uint64 for keys of one
word and (slots, 4) for keys of two. A slot is the key, followed by one word with the count in
its low half and the first row in its high half (and by a spare word after keys of two). A count
of 0 marks a free slot. Collisions go to the next slot.

The slot of a key is told by the top bits of its mixed hash, as its partition is: read from
beginning to end, a table is in the order of the partitions, but for a few collisions.

Rows are looked up 64 at a time: the slots of all are prefetched before the first is read, so
that cache misses overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from tensorstate.compiled import kernel
from tensorstate.counting.keys import copy_key, hash_at, hash_in_slot, same_key
from tensorstate.intrinsics import prefetch

AHEAD = 64
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
def address(keys: Any, counts: Any, rows: Any, first_row: int) -> None:
    """Count keys that are small integers in an array with a place for each.

    Parameters
    ----------
    keys : (n,) uint64
        Keys below the length of `counts`, of rows first_row, first_row + 1, ...
    counts, rows : (2**(8 * W),) int64
        Changed in place: the counts, and the first rows where the count is not 0.
    first_row : int
        Row number of the first key.
    """
    for i in range(np.uint64(len(keys))):
        key = keys[i]
        if counts[key] == 0:
            rows[key] = first_row + np.int64(i)
        counts[key] += 1


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
