"""Counting through files: map tasks write what they found, merge tasks read one range of all."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from tensorstate.counting.blocks import (
    Counted,
    I64Array,
    Piece,
    count_block,
    empty_room,
    entries,
    merge_pieces,
    part_of,
    partition,
)
from tensorstate.counting.histogram import StateHistogram
from tensorstate.counting.keys import words_per_key
from tensorstate.counting.plan import CountPlan
from tensorstate.counting.schedulers import Graph, Key
from tensorstate.counting.sources import Block, read
from tensorstate.counting.spill import (
    SpillDirectory,
    StoredPart,
    read_index,
    read_pieces,
    write_pieces,
)

__all__ = ["SpillJob", "merge_graph", "spill_block"]

LOADED_SHARE = 4
"""A result that takes less than this part of the limit is loaded, and its files are removed."""


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
    """

    directory: SpillDirectory
    width: int
    bits: int
    units: int
    share: int
    at_once: int

    @classmethod
    def of(cls, plan: CountPlan, directory: SpillDirectory) -> SpillJob:
        """Return what a plan says."""
        bits = plan.partitions.bit_length() - 1
        return cls(directory, plan.width, bits, plan.units, plan.share, plan.at_once)

    @property
    def words(self) -> int:
        """Words of a key."""
        return words_per_key(self.width)


_TURNS: weakref.WeakValueDictionary[str, Turns] = weakref.WeakValueDictionary()
_LOCK = threading.Lock()


class Turns:
    """Lets so many tasks of one count run at once in this process."""

    def __init__(self, at_once: int) -> None:
        self.free = threading.BoundedSemaphore(at_once)


def turns(job: SpillJob) -> Turns:
    """Return what all tasks of a count in this process share; hold on to it."""
    with _LOCK:
        found = _TURNS.get(job.directory.path)
        if found is None:
            found = _TURNS[job.directory.path] = Turns(job.at_once)
        return found


def spill_block(block: Block, number: int, job: SpillJob) -> str:
    """Count a block and write what it has; return the name of the file.

    A file that is there already was written by a twin of this task, and holds the same.
    """
    name = f"block-{number}"
    ours = turns(job)
    with ours.free:
        if not job.directory.exists(name):
            batches = read(block, job.width)
            pieces = count_block(
                batches, block.rows, job.width, block.first_row, job.bits, job.share
            )
            write_pieces(job.directory, name, pieces, job.bits, job.units)
    return name


def merge_graph(spilled: list[Key], job: SpillJob, tasks: int) -> tuple[Graph, list[Key]]:
    """Return the tasks that merge all spill files, and their keys."""
    merge = "merge-" + spilled[0][0]
    tasks = min(tasks, job.units)
    edges = pairwise(job.units * task // tasks for task in range(tasks + 1))
    graph: Graph = {
        (merge, number): (merge_units, spilled, number, *units, job)
        for number, units in enumerate(edges)
    }
    return graph, list(graph)


def merge_units(
    names: Sequence[str], number: int, first: int, last: int, job: SpillJob
) -> list[StoredPart]:
    """Merge the units from `first` up to `last` of all files into a file of the result.

    Parameters
    ----------
    names : sequence of str
        The spill files, in the order of their rows.
    number : int
        Of this task.
    first, last : int
        Which units.
    job : SpillJob
        What all tasks know.

    Returns
    -------
    list of StoredPart
        In the order of the partitions.
    """
    ours = turns(job)
    with ours.free:
        indexes = np.stack([read_index(job.directory, name, job.units) for name in names])
        parts: list[StoredPart] = []
        offset = 0
        name = f"counted-{number}"
        with job.directory.writing(name) as write:
            for counted in _merged_groups(names, indexes, first, last, job):
                if len(counted[1]):
                    parts.append(StoredPart.write(counted, job.directory, name, offset, write))
                    offset += parts[-1].size
    return parts


def _merged_groups(
    names: Sequence[str], indexes: I64Array, first: int, last: int, job: SpillJob
) -> Iterator[Counted]:
    """Merge as many units together as the share allows, and yield what they give.

    What is yielded holds until the next is asked for.
    """
    entry = 8 * job.words + 16
    sizes = np.diff(indexes, axis=1).sum(axis=0)[first:last]
    costs = sizes[:, 0] + entry * sizes[:, 1]
    groups = list(_groups(costs.tolist(), job.share))
    fits = [group for group in groups if costs[group].sum() <= job.share]
    content = np.empty(max((int(sizes[g, 0].sum()) for g in fits), default=0), np.uint8)
    room = empty_room(max((int(sizes[g, 1].sum()) for g in fits), default=0), job.words)
    for group in groups:
        begin, end = first + group.start, first + group.stop
        if costs[group].sum() > job.share:
            yield _merged_in_turn(names, indexes, begin, job)
            continue
        pieces = _read_units(names, indexes, begin, end, job, content)
        done = 0
        for some in pieces:
            if some:
                free = part_of(room, done, done + entries(some))
                done += merge_pieces(some, 0, some[0].starts.shape[1] - 1, free)
        yield part_of(room, 0, done)


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


def _merged_in_turn(names: Sequence[str], indexes: I64Array, unit: int, job: SpillJob) -> Counted:
    """Merge one unit of all files, a few files at a time: some state in it is very frequent."""
    step = (1 << job.bits) // job.units
    entry = 8 * job.words + 16
    sizes = np.diff(indexes[:, unit : unit + 2], axis=1)[:, 0]
    done = empty_room(0, job.words)
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


def histogram_of(parts: list[StoredPart], plan: CountPlan, owner: SpillDirectory) -> StateHistogram:
    """Return the result: loaded if it is small, else in files that live as long as it does.

    Parameters
    ----------
    parts : list of StoredPart
        In the order of the partitions.
    plan : CountPlan
        Tells what is small.
    owner : SpillDirectory
        Where the files are.

    Returns
    -------
    StateHistogram
    """
    distinct = sum(part.distinct for part in parts)
    words = words_per_key(plan.width)
    if distinct * (8 * words + 16) > plan.memory_limit // LOADED_SHARE:
        weakref.finalize(owner, _remove, replace(owner), os.getpid())
        return StateHistogram.from_parts([replace(p, directory=owner) for p in parts], plan.width)
    room = empty_room(distinct, words)
    done = 0
    for part in parts:
        for target, values in zip(room, part.load(), strict=True):
            target[done : done + part.distinct] = values
        done += part.distinct
    owner.remove()
    return StateHistogram.from_parts([room], plan.width)


def _remove(directory: SpillDirectory, process: int) -> None:
    # A forked child has a copy of the object, and no say in the files.
    if os.getpid() == process:
        directory.remove()
