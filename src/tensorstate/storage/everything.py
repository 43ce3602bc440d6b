"""The count of everything in a layer: kept, cached, and carried on when rows were added."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tensorstate.counting import StateHistogram
from tensorstate.counting.parts import DamagedHistogramError
from tensorstate.storage.arrays import DamagedChunkError
from tensorstate.storage.cache import HistogramCache
from tensorstate.storage.entry import Spectrum
from tensorstate.storage.increments import (
    Coverage,
    count_parts,
    counted_before,
    coverage_of,
    is_covered_by,
)
from tensorstate.storage.part import PartReader

__all__ = ["EverythingCounted"]

_T = TypeVar("_T")


class EverythingCounted:
    """What one process knows of the counts of a layer.

    `parts` are readers of everything in the layer, and `cache` is what was counted before, also by
    others, or None if counts are not stored.
    """

    def __init__(self) -> None:
        self._counted: tuple[Coverage, StateHistogram] | None = None
        self._spectrum: tuple[Coverage, Spectrum] | None = None

    def forget(self) -> None:
        """Give back the memory of what is known."""
        self._counted = self._spectrum = None

    def release(self, cache: HistogramCache | None) -> None:
        """Give back the memory of the histogram, if it can be read from the cache again."""
        if self._counted is None or cache is None:
            return
        if cache.load_spectrum(self._counted[0]) is not None:
            self._counted = None

    def histogram(
        self, parts: Sequence[PartReader], cache: HistogramCache | None, **limits: Any
    ) -> StateHistogram:
        """Count everything, with what was counted before.

        `limits` are `memory_limit` and `spill`, as for `count_states`.

        Raises
        ------
        DamagedChunkError
            If something that has to be read is missing or damaged.
        ValueError
            If rows were counted and dropped that the parts do not reach to.
        """
        return _while_they_change(parts, lambda parts: self._histogram(parts, cache, **limits))

    def spectrum(self, parts: Sequence[PartReader], cache: HistogramCache | None) -> Spectrum:
        """Return the spectrum of everything, without its keys where it is stored."""
        coverage = coverage_of(parts)
        if self._spectrum is None or self._spectrum[0] != coverage:
            found = _while_they_change(parts, lambda parts: self._find_spectrum(parts, cache))
            self._spectrum = (coverage, found)
        return self._spectrum[1]

    def known_spectrum(
        self, parts: Sequence[PartReader], cache: HistogramCache | None
    ) -> Spectrum | None:
        """Return the spectrum of everything if that was counted before, by whomever."""
        coverage = coverage_of(parts)
        if self._spectrum is not None and self._spectrum[0] == coverage:
            return self._spectrum[1]
        return _while_they_change(parts, lambda parts: self._look_up(parts, cache))

    def spectrum_of_rows(self, rows: int) -> Spectrum | None:
        """Return the spectrum of everything if that was counted when there were so many rows."""
        for known in (self._spectrum, self._counted):
            if known is not None and sum(number for _, number in known[0]) == rows:
                found = known[1]
                return found.spectrum() if isinstance(found, StateHistogram) else found
        return None

    def _find_spectrum(self, parts: Sequence[PartReader], cache: HistogramCache | None) -> Spectrum:
        found = self._look_up(parts, cache)
        return self._histogram(parts, cache).spectrum() if found is None else found

    def _look_up(
        self, parts: Sequence[PartReader], cache: HistogramCache | None
    ) -> Spectrum | None:
        coverage = coverage_of(parts)
        if self._counted is not None and self._counted[0] == coverage:
            return self._counted[1].spectrum()
        if _are_counted(parts):
            return parts[0].counted.spectrum()
        return cache.load_spectrum(coverage) if cache else None

    def _histogram(
        self, parts: Sequence[PartReader], cache: HistogramCache | None, **limits: Any
    ) -> StateHistogram:
        coverage = coverage_of(parts)
        before = self._counted
        if before is None or not _goes_on(before[0], parts):
            before = cache.load(coverage, limits.get("memory_limit")) if cache else None
        if before is None or before[0] != coverage:
            histogram = _count(parts, before, **limits)
            if cache is not None and not _are_counted(parts):
                # In the order in which it is cached, so that it is always the same.
                histogram = histogram.sorted()
                cache.save(parts, histogram)
                if histogram.origin:
                    # It was read from what has just been replaced.
                    again = cache.load(coverage, limits.get("memory_limit"))
                    histogram = again[1] if again and again[0] == coverage else histogram
            before = (coverage, histogram)
        # What is read from the cache may be gone by the next time.
        self._counted = None if before[1].origin else before
        return before[1]


def _count(
    parts: Sequence[PartReader], before: tuple[Coverage, StateHistogram] | None, **limits: Any
) -> StateHistogram:
    """Count parts, beginning with what was counted before, or else by their writers."""
    if before is not None and _goes_on(before[0], parts):
        # Another process may replace what was cached, in the middle of it.
        with contextlib.suppress(DamagedHistogramError):
            return count_parts(parts, *before, **limits)
    return count_parts(parts, *(counted_before(parts, **limits) or ()), **limits)


def _goes_on(covered: Coverage, parts: Sequence[PartReader]) -> bool:
    """Whether a count of `covered` lacks no rows but those that can be read."""
    coverage, done = coverage_of(parts), dict(covered)
    readable = all(part.counted.rows <= done.get(part.uuid, 0) for part in parts)
    return readable and (covered == coverage or is_covered_by(covered, coverage))


def _are_counted(parts: Sequence[PartReader]) -> bool:
    """Whether one writer has counted all rows: what is stored says it all."""
    return len(parts) == 1 and 0 < parts[0].counted.rows == len(parts[0])


def _while_they_change(
    parts: Sequence[PartReader], read: Callable[[Sequence[PartReader]], _T]
) -> _T:
    """Read parts, again if a writer counted and dropped rows in the middle of it."""
    while True:
        try:
            return read(parts)
        except (DamagedChunkError, DamagedHistogramError) as error:
            now = [part.reopened() or part for part in parts]
            if all(a.counted == b.counted for a, b in zip(parts, now, strict=True)):
                raise
            for part in now:
                if part.counted.rows > len(part):
                    raise ValueError(
                        f"{part.counted.where} had {len(part)} rows when it was opened, and "
                        f"{part.counted.rows} are counted as one by now: open the run again"
                    ) from error
            parts = now
