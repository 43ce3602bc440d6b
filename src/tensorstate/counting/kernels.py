"""Hash tables, and direct addressing, for states that come back often.

A table is one array, so that a look-up touches one cache line: (slots, 2) uint64 for keys of one
word and (slots, 4) for keys of two. A slot is the key, followed by one word with the count in
its low half and the first row in its high half (and by a spare word after keys of two). A count
of 0 marks a free slot. Collisions go to the next slot.

Rows are looked up 64 at a time: the slots of all are prefetched before the first is read, so
that cache misses overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from tensorstate.compiled import kernel
from tensorstate.counting.intrinsics import prefetch
from tensorstate.counting.keys import copy_key, hash_at, same_key

AHEAD = 64
"""Rows that are prefetched together."""

KEYS_AHEAD = 256
"""How far ahead keys are prefetched: where several are handled at once the processor does not
notice that they are read in order."""

# The slot is taken from all bits of the hash, not from its top bits: those are alike for all
# keys of a partition, and may be alike for an unlucky input.
SLOT_MULTIPLIER = np.uint64(0xC2B2AE3D27D4EB4F)

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
def insert(keys: Any, table: Any, order: Any, bits: int, distinct: int, first_row: int) -> Any:
    """Count keys in a table until they end or the table is full.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Keys of rows first_row, first_row + 1, ...; row numbers are below 2**32.
    table : (2**bits, 2) or (2**bits, 4) uint64
        Changed in place.
    order : (2**bits,) uint32
        Changed in place: the slots that are taken, in the order in which they were.
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
    taken = np.uint64(distinct)
    used = np.uint64(0)
    patience = COLLISIONS_PER_KEY * (len(keys) + 1024)
    while used < len(keys) and patience > 0 and not is_full(len(table), np.intp(taken)):
        batch = min(np.uint64(AHEAD), np.uint64(len(keys)) - used)
        for q in range(np.uint64(0), batch, np.uint64(4)):
            prefetch(keys, np.intp(used + q) + KEYS_AHEAD)
        for q in range(batch):
            slot = (hash_at(keys, used + q) * SLOT_MULTIPLIER) >> shift
            slots[q] = slot
            prefetch(table, np.intp(slot))
        for q in range(batch):
            slot = slots[q]
            while True:
                seen = table[slot, info]
                if seen == _FREE:
                    copy_key(keys, used + q, table, slot)
                    table[slot, info] = (np.uint64(first_row) + used + q) << _ROW_SHIFT | _ONE
                    order[taken] = np.uint32(slot)
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
def unload(keys: Any, counts: Any, rows: Any, table: Any, order: Any) -> None:
    """Write the taken slots of a table to dense arrays, in the order in which they were taken.

    Parameters
    ----------
    keys : (distinct,) or (distinct, 2) uint64
        Filled, as are `counts` and `rows`.
    counts, rows : (distinct,) int64
        How often, and in which row first.
    table, order
        As `insert` left them.
    """
    info = keys.ndim
    distinct = np.uint64(len(counts))
    for i in range(distinct):
        prefetch(table, np.intp(order[min(i + np.uint64(AHEAD), distinct - _ONE)]))
        slot = np.uint64(order[i])
        seen = table[slot, info]
        copy_key(table, slot, keys, i)
        counts[i] = np.int64(seen & _COUNT_MASK)
        rows[i] = np.int64(seen >> _ROW_SHIFT)


@kernel
def reload(keys: Any, counts: Any, rows: Any, table: Any, order: Any, bits: int) -> None:
    """Write what `unload` gave into an empty table of ``2**bits`` slots."""
    info = keys.ndim
    mask = (_ONE << np.uint64(bits)) - _ONE
    shift = np.uint64(64 - bits)
    distinct = np.uint64(len(counts))
    slots = np.empty(AHEAD, np.uint64)
    for start in range(np.uint64(0), distinct, np.uint64(AHEAD)):
        batch = min(np.uint64(AHEAD), distinct - start)
        for q in range(batch):
            slot = (hash_at(keys, start + q) * SLOT_MULTIPLIER) >> shift
            slots[q] = slot
            prefetch(table, np.intp(slot))
        for q in range(batch):
            i = start + q
            slot = slots[q]
            while table[slot, info] != _FREE:
                slot = (slot + _ONE) & mask
            copy_key(keys, i, table, slot)
            table[slot, info] = np.uint64(rows[i]) << _ROW_SHIFT | np.uint64(counts[i])
            order[i] = np.uint32(slot)


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
