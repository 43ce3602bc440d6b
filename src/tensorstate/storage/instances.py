"""The numbers of the instances in a layer, whose parts may leave gaps between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate.storage.part import PartReader
from tensorstate.storage.rows import instance_numbers

__all__ = ["InstanceNumbers", "first_overlap"]


class InstanceNumbers:
    """Which instances a layer has, by the numbers that their writers gave them.

    A part that begins with instance 1000 has the instances from 1000 on, whatever other parts
    have so far: the numbers stay the same while a run grows. The instances that are there, in
    ascending order, have the *places* 0, 1, 2...; rows are stored in that order.

    Parameters
    ----------
    ranges : iterable of range
        The numbers of each part, in any order; no two have a number in common.

    Attributes
    ----------
    span : int
        One more than the last number: what a mask or labels have an entry for.
    count : int
        How many instances are there; less than `span` if there are gaps.

    Examples
    --------
    >>> numbers = InstanceNumbers([range(0, 3), range(10, 12)])
    >>> numbers.span, numbers.count, numbers.places([10, 1, -1]).tolist()
    (12, 5, [3, 1, 4])
    """

    def __init__(self, ranges: Iterable[range]) -> None:
        self._ranges = sorted((r for r in ranges if len(r)), key=lambda r: r.start)
        self.span = self._ranges[-1].stop if self._ranges else 0
        self.count = sum(map(len, self._ranges))

    @classmethod
    def of(cls, parts: Sequence[PartReader], positions: int | None) -> InstanceNumbers:
        """Return the numbers of the instances that parts of a layer hold."""
        return cls(
            range(part.first_instance, part.first_instance + len(part.extents(positions)))
            for part in parts
        )

    def all(self) -> NDArray[np.int64]:
        """Return the numbers of all instances that are there, ascending: (count,) int64."""
        numbers = [np.arange(r.start, r.stop) for r in self._ranges]
        return np.concatenate([np.empty(0, np.int64), *numbers])

    def places(self, index: ArrayLike) -> NDArray[np.int64]:
        """Return the places of instances.

        Parameters
        ----------
        index : array_like of int or bool
            Numbers, negative ones from `span` back, or a mask of the length `span`.

        Raises
        ------
        IndexError
            If an instance is not there, or the mask has another length.
        """
        captured = f"the {self.count} captured ones"
        if self.count < self.span:
            captured += f", {self}"
        numbers = instance_numbers(index, self.span, captured)
        if not len(numbers):
            return numbers
        starts = np.array([r.start for r in self._ranges], np.int64)
        stops = np.array([r.stop for r in self._ranges], np.int64)
        before = np.cumsum([0, *map(len, self._ranges)])
        which = np.searchsorted(starts, numbers, side="right") - 1
        missing = numbers[(which < 0) | (numbers >= stops[which])]
        if len(missing):
            raise IndexError(f"instance {missing[0]} is not among {captured}")
        return np.asarray(numbers - starts[which] + before[which], np.int64)

    def at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the instances at places from 0 on, the inverse of `places`."""
        before = np.cumsum([0, *map(len, self._ranges)])
        which = np.searchsorted(before, places, side="right") - 1
        starts = np.array([r.start for r in self._ranges], np.int64)
        return np.asarray(places - before[which] + starts[which], np.int64)

    def __str__(self) -> str:
        joined: list[range] = []
        for r in self._ranges:
            if joined and joined[-1].stop == r.start:
                joined[-1] = range(joined[-1].start, r.stop)
            else:
                joined.append(r)
        return ", ".join(f"{r.start} to {r.stop - 1}" for r in joined) or "none"


def first_overlap(ranges: dict[str, range]) -> tuple[str, str] | None:
    """Return the names of two ranges that have numbers in common; None if no two have.

    Examples
    --------
    >>> first_overlap({"a": range(5), "b": range(5, 9), "c": range(8, 10), "d": range(0)})
    ('b', 'c')
    """
    filled = sorted((r.start, r.stop, name) for name, r in ranges.items() if len(r))
    for (_, stop, name), (start, _, other) in pairwise(filled):
        if start < stop:
            return name, other
    return None
