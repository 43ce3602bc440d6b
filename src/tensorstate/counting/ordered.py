"""Merging two histograms in canonical order, of which no more than chunks are in memory.

Both are read from their beginning, and whichever chunk ends first tells how far the other one is
merged. What they give is in canonical order too, and goes to a file as it comes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numba.extending import overload

from tensorstate.compiled import kernel
from tensorstate.counting.keys import U64Array, copy_key, frozen, mixed_hash, same_key
from tensorstate.counting.memory import give_back
from tensorstate.counting.parts import StoredPart
from tensorstate.counting.pieces import Counted, I64Array, empty_room, part_of
from tensorstate.counting.spill import SpillDirectory
from tensorstate.counting.walk import chunks_of, place

__all__ = ["ENTRIES_AT_ONCE", "merge_to_files", "merged_in_order"]

ENTRIES_AT_ONCE = 1 << 16
"""So many entries of each histogram are merged together."""

PART_ENTRIES = 1 << 18
"""So many entries are written, and later read, as one part."""

_ONE = np.uint64(1)


def merge_to_files(
    first: Iterable[Counted], second: Iterable[Counted], below: str
) -> list[StoredPart]:
    """Merge two histograms into files of their own, which the parts keep for as long as they are.

    Parameters
    ----------
    first, second : iterable of (keys, counts, first rows)
        Entries in canonical order, in chunks of any size.
    below : str
        The directory or URL below which a private directory for the files is made.

    Returns
    -------
    list of StoredPart
        In canonical order, each by itself and one after the other.

    Raises
    ------
    OSError
        If files cannot be written, such as on a full disk; nothing is left of them.
    """
    directory = SpillDirectory.create(below)
    directory.remove_with_last()
    parts: list[StoredPart] = []
    name, offset = "merged", 0
    try:
        with directory.writing(name) as write:
            for counted in chunks_of(merged_in_order(first, second), PART_ENTRIES):
                parts.append(StoredPart.write(counted, directory, name, offset, write))
                offset += parts[-1].size
    except BaseException:
        directory.remove()
        raise
    finally:
        give_back()
    return parts


def merged_in_order(first: Iterable[Counted], second: Iterable[Counted]) -> Iterator[Counted]:
    """Merge two histograms, a chunk of each at a time.

    Parameters
    ----------
    first, second : iterable of (keys, counts, first rows)
        Entries in canonical order, in chunks of any size.

    Yields
    ------
    (keys, counts, first rows)
        At least one entry, in canonical order: counts of equal keys are added, and the smaller
        first row stands.
    """
    one, two = _Stream(first), _Stream(second)
    while one.fill() and two.fill():
        stop = min(one.last, two.last)
        yield _merged(one.take(stop), two.take(stop))
    for rest in (one, two):
        while rest.fill():
            yield rest.take(rest.last)[0]


class _Stream:
    """The entries of a histogram: those that were read and not yet taken, and the chunks to come.

    Parameters
    ----------
    pieces : iterable of (keys, counts, first rows)
        In canonical order.

    Attributes
    ----------
    last : tuple of int
        The `place` of the last key that was read.
    """

    def __init__(self, pieces: Iterable[Counted]) -> None:
        self._chunks = chunks_of(pieces, ENTRIES_AT_ONCE)
        self._held: tuple[Counted, U64Array] | None = None
        self.last: tuple[int, ...] = ()

    def fill(self) -> bool:
        """Read a chunk if there is nothing left of the one before; return whether there is any."""
        if self._held is None:
            counted = next(self._chunks, None)
            if counted is None:
                return False
            self._held = counted, mixed_hash(counted[0])
            self.last = place(counted[0], -1)
        return True

    def take(self, stop: tuple[int, ...]) -> tuple[Counted, U64Array]:
        """Return what is held up to this place and at it, and the mixed hashes of that."""
        assert self._held is not None
        counted, hashes = self._held
        end = len(hashes)
        if stop < self.last:
            end = bisect_right(range(end), stop, key=lambda i: place(counted[0], i))
        rest = part_of(counted, end, len(hashes))
        self._held = (rest, hashes[end:]) if end < len(hashes) else None
        return part_of(counted, 0, end), hashes[:end]


def _merged(first: tuple[Counted, U64Array], second: tuple[Counted, U64Array]) -> Counted:
    sides = [[frozen(array) for array in (*counted, hashes)] for counted, hashes in (first, second)]
    keys = sides[0][0]
    room = empty_room(len(keys) + len(sides[1][0]), keys.ndim)
    return part_of(room, 0, int(merge_sorted(*sides[0], *sides[1], *room)))


def comes_before(keys: Any, i: Any, others: Any, j: Any) -> Any:
    """Whether the words of key `i` of `keys` come before those of `others` (in kernels only)."""


@overload(comes_before, inline="always")
def _comes_before(keys: Any, i: Any, others: Any, j: Any) -> Any:
    def one_word(keys: Any, i: Any, others: Any, j: Any) -> Any:
        return keys[i] < others[j]

    def two_words(keys: Any, i: Any, others: Any, j: Any) -> Any:
        if keys[i, 0] == others[j, 0]:
            return keys[i, 1] < others[j, 1]
        return keys[i, 0] < others[j, 0]

    return one_word if keys.ndim == 1 else two_words


@kernel
def merge_sorted(
    keys: U64Array,
    counts: I64Array,
    rows: I64Array,
    hashes: U64Array,
    more_keys: U64Array,
    more_counts: I64Array,
    more_rows: I64Array,
    more_hashes: U64Array,
    to_keys: U64Array,
    to_counts: I64Array,
    to_rows: I64Array,
) -> Any:
    """Merge entries in canonical order into `to_keys`, `to_counts` and `to_rows`.

    Parameters
    ----------
    keys, counts, rows, hashes : (n,) uint64 or int64; keys may be (n, 2)
        Entries and the mixed hashes of their keys.
    more_keys, more_counts, more_rows, more_hashes : the same of length m
        The other ones.
    to_keys, to_counts, to_rows : the same of length n + m
        Filled from the start.

    Returns
    -------
    int
        How many different keys there are.
    """
    i = j = n = np.uint64(0)
    end, more_end = np.uint64(len(hashes)), np.uint64(len(more_hashes))
    while i < end or j < more_end:
        if i == end:
            order = 1
        elif j == more_end:
            order = -1
        elif hashes[i] != more_hashes[j]:
            order = -1 if hashes[i] < more_hashes[j] else 1
        elif same_key(keys, i, more_keys, j):
            order = 0
        else:
            order = -1 if comes_before(keys, i, more_keys, j) else 1
        if order > 0:
            copy_key(more_keys, j, to_keys, n)
            to_counts[n] = more_counts[j]
            to_rows[n] = more_rows[j]
            j += _ONE
        else:
            copy_key(keys, i, to_keys, n)
            to_counts[n] = counts[i]
            to_rows[n] = rows[i]
            if order == 0:
                to_counts[n] += more_counts[j]
                to_rows[n] = min(rows[i], more_rows[j])
                j += _ONE
            i += _ONE
        n += _ONE
    return n
