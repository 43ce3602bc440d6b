"""Merging what all spill files have of a range of partitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tensorstate.counting.blocks import (
    Counted,
    I64Array,
    Piece,
    empty_room,
    entries,
    merge_pieces,
    part_of,
    partition,
)
from tensorstate.counting.keys import words_per_key
from tensorstate.counting.parts import OutsidePart
from tensorstate.counting.spill import SpillDirectory, read_index, read_pieces

__all__ = ["MergedPart", "SpillJob", "merged_groups"]


@dataclass(frozen=True)
class SpillJob:
    """What every task of one count must know.

    Attributes
    ----------
    directory : SpillDirectory
        Where files go.
    width : int
        Bytes of a packed state.
    bits : int
        There are ``2**bits`` partitions.
    units : int
        Ranges of partitions in a spill file.
    share : int
        Bytes that one task may take.
    at_once : int
        How many tasks may run at once in a process.
    files : int
        How many spill files there are.
    """

    directory: SpillDirectory
    width: int
    bits: int
    units: int
    share: int
    at_once: int
    files: int

    @property
    def words(self) -> int:
        """Words of a key."""
        return words_per_key(self.width)

    @property
    def names(self) -> list[str]:
        """Names of the spill files, in the order of their rows."""
        return [f"block-{number}" for number in range(self.files)]

    @property
    def group_bytes(self) -> int:
        """What units that are merged together may take.

        It leaves room for sorting them, which takes 2.6 times as much, though for one at a time.
        """
        return self.share // (4 if self.at_once == 1 else 2)

    def indexes(self) -> I64Array:
        """Read the indexes of all spill files: (files, units + 1, 2) int64."""
        return np.stack([read_index(self.directory, name, self.units) for name in self.names])


@dataclass(frozen=True, kw_only=True, eq=False)
class MergedPart(OutsidePart):
    """A part that is merged from spill files whenever it is asked for.

    Where few states come twice, that takes less than to write and read what was merged.

    Attributes
    ----------
    job : SpillJob
        Tells of the files, though not where they are.
    first, last : int
        The units from `first` up to `last`.
    """

    job: SpillJob
    first: int
    last: int

    def _entries(self) -> Counted:
        job = replace(self.job, directory=self.directory)
        ((_, _, counted),) = merged_groups(job.indexes(), self.first, self.last, job)
        return counted


def merged_groups(
    indexes: I64Array, first: int, last: int, job: SpillJob
) -> Iterator[tuple[int, int, Counted]]:
    """Merge as many units together as the share allows, and yield what they give.

    Parameters
    ----------
    indexes : (files, units + 1, 2) int64
        Of the spill files.
    first, last : int
        The units from `first` up to `last` are merged.
    job : SpillJob
        What all tasks know.

    Yields
    ------
    first, last : int
        Which units were merged together.
    counted : (keys, counts, first rows)
        What they give; the arrays hold until the next is asked for.
    """
    entry = 8 * job.words + 16
    sizes = np.diff(indexes, axis=1).sum(axis=0)[first:last]
    costs = sizes[:, 0] + entry * sizes[:, 1]
    groups = list(_groups(costs.tolist(), job.group_bytes))
    fits = [group for group in groups if costs[group].sum() <= job.share]
    content = np.empty(max((int(sizes[g, 0].sum()) for g in fits), default=0), np.uint8)
    room = empty_room(max((int(sizes[g, 1].sum()) for g in fits), default=0), job.words)
    for group in groups:
        begin, end = first + group.start, first + group.stop
        if costs[group].sum() > job.share:
            yield begin, end, _merged_in_turn(indexes, begin, job)
            continue
        pieces = _read_units(job.names, indexes, begin, end, job, content)
        done = 0
        for some in pieces:
            if some:
                free = part_of(room, done, done + entries(some))
                done += merge_pieces(some, 0, some[0].starts.shape[1] - 1, free)
        yield begin, end, part_of(room, 0, done)


def _groups(costs: list[int], most: int) -> Iterator[slice]:
    start = held = 0
    for unit, cost in enumerate(costs):
        if unit > start and held + cost > most:
            yield slice(start, unit)
            start, held = unit, 0
        held += cost
    if start < len(costs):
        yield slice(start, len(costs))


def _read_units(
    names: Sequence[str], indexes: I64Array, begin: int, end: int, job: SpillJob, into: Any
) -> list[list[Piece]]:
    """Read the units from `begin` up to `end`: the pieces of all files, for each."""
    units: list[list[Piece]] = [[] for _ in range(end - begin)]
    place = 0
    for name, index in zip(names, indexes, strict=True):
        start, stop = int(index[begin, 0]), int(index[end, 0])
        if start == stop:
            continue
        content = into[place : place + stop - start]
        place += stop - start
        job.directory.read(name, start, content)
        for unit, pieces in enumerate(units, start=begin):
            part = slice(int(index[unit, 0]) - start, int(index[unit + 1, 0]) - start)
            pieces.extend(read_pieces(content[part], job.words))
    return units


def _merged_in_turn(indexes: I64Array, unit: int, job: SpillJob) -> Counted:
    """Merge one unit of all files, a few files at a time: some state in it is very frequent."""
    step = (1 << job.bits) // job.units
    entry = 8 * job.words + 16
    sizes = np.diff(indexes[:, unit : unit + 2], axis=1)[:, 0]
    done = empty_room(0, job.words)
    names = job.names
    files = slice(0, 0)
    while files.stop < len(names):
        # What is merged already is copied by partition, and gets room once more.
        free = job.share - 3 * entry * len(done[1])
        costs = (sizes[files.stop :, 0] + entry * sizes[files.stop :, 1]).tolist()
        files = slice(files.stop, files.stop + next(_groups(costs, free)).stop)
        content = np.empty(int(sizes[files, 0].sum()), np.uint8)
        (pieces,) = _read_units(names[files], indexes[files], unit, unit + 1, job, content)
        if len(done[1]):
            before = partition(done, job.bits)
            starts = before.starts[:, unit * step : (unit + 1) * step + 1]
            pieces.insert(0, replace(before, starts=starts))
        if pieces:
            room = empty_room(entries(pieces), job.words)
            done = part_of(room, 0, merge_pieces(pieces, 0, step, room))
    return done
