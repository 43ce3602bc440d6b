"""Merging what all spill files have of a range of partitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tensorstate.counting.keys import words_per_key
from tensorstate.counting.parts import OutsidePart
from tensorstate.counting.pieces import (
    Counted,
    Piece,
    Scratch,
    empty_room,
    entries,
    merge_pieces,
    part_of,
    partition,
)
from tensorstate.counting.spill import SpillDirectory
from tensorstate.counting.spill_files import SpillFile

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
    share: int
    at_once: int
    files: int

    @property
    def words(self) -> int:
        """Words of a key."""
        return words_per_key(self.width)

    def name(self, number: int) -> str:
        """Return the name of a spill file; they are numbered in the order of their rows."""
        return f"block-{number}"

    @property
    def group_bytes(self) -> int:
        """What partitions that are merged together may take.

        It leaves room for sorting them, which takes 2.6 times as much, though for one at a time.
        """
        return self.share // (4 if self.at_once == 1 else 2)

    def open(self, chosen: range) -> list[SpillFile]:
        """Open all spill files, to read a range of partitions."""
        names = [self.name(number) for number in range(self.files)]
        return SpillFile.open(self.directory, names, self.words, 1 << self.bits, chosen)


@dataclass(frozen=True, kw_only=True, eq=False)
class MergedPart(OutsidePart):
    """A part that is merged from spill files whenever it is asked for.

    Where few states come twice, that takes less than to write and read what was merged.

    Attributes
    ----------
    job : SpillJob
        Tells of the files, though not where they are.
    first, last : int
        The partitions from `first` up to `last`.
    """

    job: SpillJob
    first: int
    last: int

    def _entries(self) -> Counted:
        job = replace(self.job, directory=self.directory)
        chosen = range(self.first, self.last)
        ((_, counted),) = merged_groups(job.open(chosen), chosen, job, Scratch(0))
        return counted


def merged_groups(
    files: Sequence[SpillFile],
    chosen: range,
    job: SpillJob,
    scratch: Scratch,
    disk: AbstractContextManager[Any] = nullcontext(),  # noqa: B008
) -> Iterator[tuple[range, Counted]]:
    """Merge as many partitions together as the share allows, and yield what they give.

    Parameters
    ----------
    files : sequence of SpillFile
        Opened for `chosen`.
    chosen : range
        Which partitions.
    job : SpillJob
        What all tasks know.
    scratch : Scratch
        Where they are put.
    disk : context manager
        Entered to read.

    Yields
    ------
    group : range
        Which partitions were merged together.
    counted : (keys, counts, first rows)
        What they give; the arrays hold until the next is asked for.
    """
    costs = np.zeros(len(chosen), np.int64)
    for file in files:
        sizes, keys = file.sizes()
        costs += sizes + (8 * job.words + 16) * keys
    for part in _groups(costs.tolist(), job.group_bytes):
        group = chosen[part]
        scratch.clear()
        if costs[part].sum() > job.share:
            yield group, _merged_in_turn(files, group, job)
            continue
        pieces = _read(files, group, job, scratch, disk)
        size = entries(pieces)
        room = scratch.room(size, job.words)
        distinct = merge_pieces(pieces, 0, len(group), room) if pieces else 0
        yield group, part_of(room, 0, distinct)


def _groups(costs: Sequence[int], most: int) -> Iterator[slice]:
    start = held = 0
    for place, cost in enumerate(costs):
        if place > start and held + cost > most:
            yield slice(start, place)
            start, held = place, 0
        held += cost
    if start < len(costs):
        yield slice(start, len(costs))


def _read(
    files: Sequence[SpillFile],
    chosen: range,
    job: SpillJob,
    scratch: Scratch,
    disk: AbstractContextManager[Any] = nullcontext(),  # noqa: B008
) -> list[Piece]:
    found = [file.pieces(chosen, scratch) for file in files]
    with disk:
        job.directory.read_all([request for _, requests in found for request in requests])
    for file, (pieces, _) in zip(files, found, strict=True):
        if not file.is_whole(chosen, pieces):
            raise job.directory.damaged(file.name)
    return [piece for pieces, _ in found for piece in pieces]


def _merged_in_turn(files: Sequence[SpillFile], chosen: range, job: SpillJob) -> Counted:
    """Merge one partition, a few files at a time: some state in it is very frequent."""
    (number,) = chosen
    entry = 8 * job.words + 16
    done = empty_room(0, job.words)
    place = number - files[0].first
    sizes, keys = (
        np.array([of_file[place] for of_file in column])
        for column in zip(*(file.sizes() for file in files), strict=True)
    )
    costs = sizes + entry * keys
    stop = 0
    while stop < len(files):
        # What is merged already is copied by partition, and gets room once more.
        free = job.share - 3 * entry * len(done[1])
        some = next(_groups(costs[stop:].tolist(), free))
        pieces = _read(files[stop : stop + some.stop], chosen, job, Scratch(0))
        stop += some.stop
        if len(done[1]):
            before = partition(done, job.bits)
            pieces.insert(0, replace(before, starts=before.starts[:, number : number + 2]))
        if pieces:
            room = empty_room(entries(pieces), job.words)
            done = part_of(room, 0, merge_pieces(pieces, 0, 1, room))
    return done
