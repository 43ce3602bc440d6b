"""What a count covers, and how it goes on when rows were added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tensorstate.counting import StateHistogram, count_states
from tensorstate.storage.part import PartReader
from tensorstate.storage.rows import PartRows

__all__ = ["Coverage", "count_parts", "counted_before", "coverage_of", "is_covered_by"]

Coverage: TypeAlias = tuple[tuple[str, int], ...]
"""The uuid and the number of rows of each part that a count covers, in the order of the rows."""


def coverage_of(parts: Sequence[PartReader]) -> Coverage:
    """Return what a count of all rows of these parts covers."""
    return tuple((part.uuid, len(part)) for part in parts)


def is_covered_by(covered: Coverage, coverage: Coverage) -> bool:
    """Whether a count of `covered` can go on to one of `coverage`: whether rows were only added.

    Examples
    --------
    >>> is_covered_by((("a", 10), ("c", 5)), (("a", 12), ("b", 3), ("c", 5)))
    True
    >>> is_covered_by((("a", 10),), (("a", 9),)), is_covered_by((("a", 10),), (("b", 10),))
    (False, False)
    """
    uuids = [part for part, _ in coverage]
    known = [part for part, _ in covered]
    if not all(uuids) or len(set(uuids)) < len(uuids) or not set(known) <= set(uuids):
        return False
    places = [uuids.index(part) for part in known]
    # In another order, the first row of a state might be another one.
    if places != sorted(set(places)):
        return False
    return all(
        0 <= rows <= coverage[place][1] for place, (_, rows) in zip(places, covered, strict=True)
    )


def counted_before(
    parts: Sequence[PartReader], **limits: Any
) -> tuple[Coverage, StateHistogram] | None:
    """Return which rows of parts their writers counted, and a count of these; None if none are.

    The arguments and errors are those of `count_parts`, which goes on with the result.
    """
    covered: list[tuple[str, int]] = []
    known: StateHistogram | None = None
    start = 0
    for part in parts:
        rows = part.counted.rows
        if rows:
            found = _moved(part.counted.histogram(limits.get("memory_limit")), [rows], [start])
            known = found if known is None else known.merge(found, **limits)
            covered.append((part.uuid, rows))
            start += rows
    return None if known is None else (tuple(covered), known)


def count_parts(
    parts: Sequence[PartReader],
    covered: Coverage = (),
    known: StateHistogram | None = None,
    *,
    count: Callable[..., StateHistogram] = count_states,
    **limits: Any,
) -> StateHistogram:
    """Count the rows of parts, or only those that a count before did not cover.

    Parameters
    ----------
    parts : sequence of PartReader
        Everything that is to be counted, in the order of the rows.
    covered : Coverage
        What was counted before; it fulfils `is_covered_by` with the coverage of the parts.
    known : StateHistogram, optional
        The result of that. Its rows are numbered through the rows that it covers.
    count : callable
        What counts rows: `count_states` or `count_here`.
    **limits
        `memory_limit` and `spill`, as for `count_states` and `StateHistogram.merge`.

    Returns
    -------
    StateHistogram
        Of all rows, numbered through all parts.

    Raises
    ------
    DamagedChunkError
        If a chunk that has to be read is missing or damaged; it names run, layer, part and chunk.
    DamagedHistogramError
        If `known` is read from files that were changed.
    """
    if known is None:
        return count(list(parts), **limits)
    done = dict(covered)
    start_of: dict[str, int] = {}
    pieces: list[PartRows] = []
    places: list[int] = []
    start = 0
    for part in parts:
        start_of[part.uuid] = start
        for piece in _rows_from(part, done.get(part.uuid, 0)):
            pieces.append(piece)
            places.append(start + piece.start)
        start += len(part)
    known = _moved(known, [rows for _, rows in covered], [start_of[part] for part, _ in covered])
    if not pieces:
        return known
    new = _moved(count(pieces, **limits), [len(piece) for piece in pieces], places)
    return known.merge(new, **limits)


def _rows_from(part: PartReader, start: int) -> list[PartRows]:
    """Return the rows of a part from `start`, first the rest of a chunk and then whole chunks."""
    edge = min(-(-start // part.chunks[0]) * part.chunks[0], len(part))
    pieces = [PartRows(part, start, edge), PartRows(part, edge, len(part))]
    return [piece for piece in pieces if len(piece)]


def _moved(
    histogram: StateHistogram, lengths: Sequence[int], starts: Sequence[int]
) -> StateHistogram:
    """Renumber the first rows: stretches of these lengths, one after the other, now start there."""
    ends = np.cumsum(lengths, dtype=np.int64)
    shifts = np.asarray(starts, np.int64) - (ends - np.asarray(lengths, np.int64))
    if not shifts.any():
        return histogram
    return histogram.with_first_rows(partial(_shifted, ends=ends, shifts=shifts))


def _shifted(
    rows: NDArray[np.int64], ends: NDArray[np.int64], shifts: NDArray[np.int64]
) -> NDArray[np.int64]:
    return rows + shifts[np.searchsorted(ends, rows, side="right")]
