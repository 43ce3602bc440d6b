"""The entries of a histogram, part by part: joined, in canonical order, or as Dask arrays.

A histogram is a list of parts that have no key in common. They are arrays, or they lie outside
memory; then each is a range of the mixed hash, they follow each other in its order, and no more
than one is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeGuard

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt

from tensorstate.counting.keys import U64Array, mixed_hash, words_per_key
from tensorstate.counting.parts import LazyPart, Spectrum, out_of_order
from tensorstate.counting.pieces import Counted, canonical_order, empty_room, part_of

__all__ = [
    "Part",
    "are_outside",
    "check_shapes",
    "chunks_of",
    "dask_arrays",
    "distinct_of",
    "in_canonical_order",
    "in_turn",
    "joined",
    "loaded",
    "place",
    "sum_of_spectra",
    "total_of",
]

Part: TypeAlias = Counted | LazyPart


def are_outside(parts: Sequence[Part]) -> TypeGuard[Sequence[LazyPart]]:
    """Whether the entries are outside memory."""
    return any(isinstance(part, LazyPart) for part in parts)


def check_shapes(part: Part, width: int) -> None:
    """Raise ValueError if arrays do not fit each other or states of `width` bytes."""
    if isinstance(part, LazyPart):
        return
    keys, counts, first_rows = part
    shape = (len(counts),) if words_per_key(width) == 1 else (len(counts), 2)
    if keys.shape != shape or counts.ndim != 1 or first_rows.shape != counts.shape:
        raise ValueError(
            f"keys, counts and first rows of states of {width} bytes have the shapes "
            f"{shape}, {shape[:1]} and {shape[:1]}, "
            f"not {keys.shape}, {counts.shape} and {first_rows.shape}"
        )


def loaded(part: Part) -> Counted:
    """Return keys, counts and first rows of a part in memory."""
    return part.load() if isinstance(part, LazyPart) else part


def distinct_of(parts: Sequence[Part]) -> int:
    """Return how many entries there are."""
    return sum(p.distinct if isinstance(p, LazyPart) else len(p[1]) for p in parts)


def total_of(parts: Sequence[Part]) -> int:
    """Return the sum of the counts."""
    return sum(p.total if isinstance(p, LazyPart) else int(p[1].sum()) for p in parts)


def joined(parts: Sequence[Part], words: int) -> Counted:
    """Return keys of `words` words, counts and first rows of all parts as one."""
    if len(parts) == 1:
        return loaded(parts[0])
    room = empty_room(distinct_of(parts), words)
    done = 0
    for part in map(loaded, parts):
        for target, values in zip(room, part, strict=True):
            target[done : done + len(values)] = values
        done += len(part[1])
    return room


def in_canonical_order(parts: Sequence[Part], length: int) -> Iterator[Counted]:
    """Yield the entries in canonical order: those in memory in copies of at most `length`.

    Parameters
    ----------
    parts : sequence of Part
        Arrays as one part at most; or all outside memory.
    length : int
        How many entries of an array are copied at once.

    Yields
    ------
    (keys, counts, first rows)
        Any number of entries.

    Raises
    ------
    DamagedHistogramError
        If parts outside memory are not what was written.
    """
    if are_outside(parts):
        yield from in_turn(
            [part if part.is_sorted else replace(part, is_sorted=True) for part in parts]
        )
        return
    for keys, counts, rows in map(loaded, parts):
        order = canonical_order(keys)
        for start in range(0, len(order), length):
            some = order[start : start + length]
            yield keys[some], counts[some], rows[some]


def in_turn(parts: Sequence[LazyPart]) -> Iterator[Counted]:
    """Yield the entries of each part, which are in canonical order, and check that parts are too.

    Raises
    ------
    DamagedHistogramError
        If a part does not follow the one before.
    """
    last: tuple[int, ...] = (-1,)
    for part in parts:
        keys, counts, rows = part.load()
        if place(keys, 0) <= last:
            raise out_of_order(part.origin or "a histogram in spill files")
        last = place(keys, -1)
        yield keys, counts, rows
        del keys, counts, rows


def place(keys: U64Array, i: int) -> tuple[int, ...]:
    """Return what is compared in canonical order: mixed hash and words of key `i`."""
    key = keys[i : i + 1] if i >= 0 else keys[len(keys) + i :][:1]
    return (int(mixed_hash(key)[0]), *(int(word) for word in key.ravel()))


def chunks_of(pieces: Iterable[Counted], length: int) -> Iterator[Counted]:
    """Yield the entries of pieces in the same order, `length` at a time; the rest comes last."""
    held: list[Counted] = []
    missing = 0
    for piece in pieces:
        taken = min(missing, len(piece[1]))
        if held:
            held.append(part_of(piece, 0, taken))
            missing -= taken
            if missing:
                continue
            yield _concatenated(held)
            held = []
        stop = len(piece[1]) - (len(piece[1]) - taken) % length
        for start in range(taken, stop, length):
            yield part_of(piece, start, start + length)
        if stop < len(piece[1]):
            # Copies, so that the piece can go before the next one comes.
            keys, counts, rows = part_of(piece, stop, len(piece[1]))
            held = [(keys.copy(), counts.copy(), rows.copy())]
            missing = length - len(counts)
        del piece
    if held:
        yield _concatenated(held)


def _concatenated(pieces: Sequence[Counted]) -> Counted:
    keys, counts, rows = zip(*pieces, strict=True)
    return np.concatenate(keys), np.concatenate(counts), np.concatenate(rows)


def sum_of_spectra(spectra: Iterable[Spectrum]) -> Spectrum:
    """Return the spectrum of everything from those of parts: (times seen, number of states)."""
    nothing = np.empty(0, np.int64)
    times, states = zip((nothing, nothing), *spectra, strict=True)
    summed, place = np.unique(np.concatenate(times), return_inverse=True)
    added = np.zeros(len(summed), np.int64)
    np.add.at(added, place, np.concatenate(states))
    return summed, added


def dask_arrays(parts: Sequence[LazyPart]) -> tuple[Any, Any, Any]:
    """Return keys, counts and first rows as Dask arrays, a chunk for each part of at least one."""
    words = (2,) if parts[0].words == 2 else ()
    keys, counts, rows = (
        da.concatenate(
            [
                da.from_delayed(
                    dask.delayed(_column, pure=False)(part, column),
                    (part.distinct, *shape),
                    dtype=dtype,
                )
                for part in parts
            ]
        )
        for column, (shape, dtype) in enumerate(
            [(words, np.uint64), ((), np.int64), ((), np.int64)]
        )
    )
    return keys, counts, rows


def _column(part: LazyPart, column: int) -> npt.NDArray[Any]:
    return part.column(column)
