"""Counting through files: map tasks write what they found, merge tasks read one range of all."""

from __future__ import annotations

import contextlib
import queue
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from tensorstate.counting.blocks import count_block
from tensorstate.counting.histogram import StateHistogram
from tensorstate.counting.keys import words_per_key
from tensorstate.counting.memory import LOADED_SHARE
from tensorstate.counting.merging import MergedPart, SpillJob, merged_groups
from tensorstate.counting.parts import OutsidePart, StoredPart, facts
from tensorstate.counting.pieces import Scratch, empty_room, lay_out
from tensorstate.counting.plan import CountPlan
from tensorstate.counting.schedulers import Graph, Key
from tensorstate.counting.sources import Block, read
from tensorstate.counting.spill import SpillDirectory
from tensorstate.counting.spill_files import write_pieces

__all__ = ["histogram_of", "merge_graph", "spill_block", "spill_job"]

PLACES = 16
"""So many workers are asked for each merge task; the one with the least to do gets it."""

REPEATS = 2
"""A range whose spill files take so many times what it gives is written merged."""


def spill_job(plan: CountPlan, directory: SpillDirectory, blocks: int) -> SpillJob:
    """Return what the tasks of a plan must know."""
    bits = plan.partitions.bit_length() - 1
    return SpillJob(directory, plan.width, bits, plan.share, plan.at_once, blocks)


_TURNS: weakref.WeakValueDictionary[str, Turns] = weakref.WeakValueDictionary()
_LOCK = threading.Lock()


class Turns:
    """Lets so many tasks of one count run at once in this process, and lends each its memory.

    `disk` is for the tasks that read or write, at most half of them: while these wait for the
    disk, the others keep the processor busy.

    Parameters
    ----------
    job : SpillJob
        Tells how many, and how much one may take.
    """

    def __init__(self, job: SpillJob) -> None:
        self._free: queue.SimpleQueue[Scratch] = queue.SimpleQueue()
        for _ in range(job.at_once):
            self._free.put(Scratch(job.share))
        self.disk = threading.BoundedSemaphore(max(job.at_once // 2, 1))

    @contextlib.contextmanager
    def turn(self) -> Iterator[Scratch]:
        """Wait for a turn; yield memory that was used before, if there was a turn before."""
        scratch = self._free.get()
        try:
            scratch.clear()
            yield scratch
        finally:
            self._free.put(scratch)


def turns(job: SpillJob) -> Turns:
    """Return what all tasks of a count in this process share; hold on to it."""
    with _LOCK:
        found = _TURNS.get(job.directory.path)
        if found is None:
            found = _TURNS[job.directory.path] = Turns(job)
        return found


def spill_block(block: Block, number: int, job: SpillJob) -> str:
    """Count a block and write what it has; return the name of the file.

    A file that is there already was written by a twin of this task, and holds the same.
    """
    name = job.name(number)
    ours = turns(job)
    with ours.turn() as scratch:
        if not job.directory.exists(name):
            pieces = count_block(
                read(block, job.width),
                block.rows,
                job.width,
                block.first_row,
                job.bits,
                job.share,
                scratch,
            )
            laid_out = [p if p.counts is not None else lay_out(p, scratch) for p in pieces]
            write_pieces(job.directory, name, laid_out, 1 << job.bits, ours.disk)
    return name


def merge_graph(spilled: list[Key], job: SpillJob, tasks: int) -> tuple[Graph, list[Key]]:
    """Return the tasks that merge all spill files, and their keys.

    They wait for one task, which waits for all that spill: if each of them waited for all, the
    scheduler would have to keep, and to send, as many dependencies as there are pairs. Dask lets a
    task run where something is that it needs, so each needs a few names too, which are everywhere.
    """
    merge, written = "merge-" + spilled[0][0], "written-" + spilled[0][0]
    partitions = 1 << job.bits
    edges = pairwise(partitions * task // tasks for task in range(tasks + 1))
    merges: Graph = {}
    for number, chosen in enumerate(edges):
        places = range(number, tasks * PLACES, tasks)
        names = {spilled[len(spilled) * place // (tasks * PLACES)] for place in places}
        needed = [written, *sorted(names)]
        merges[merge, number] = (merge_partitions, needed, number, *chosen, job)
    return {written: (len, spilled), **merges}, list(merges)


def merge_partitions(
    needed: list[int | str], number: int, first: int, last: int, job: SpillJob
) -> list[OutsidePart]:
    """Merge the partitions from `first` up to `last` of all files, and tell what they give.

    Parameters
    ----------
    needed : list
        How many spill files there are, all of them by now; and the names of some.
    number : int
        Of this task.
    first, last : int
        Which partitions.
    job : SpillJob
        What all tasks know.

    Returns
    -------
    list of OutsidePart
        In the order of the partitions. What many repeats made small is in a file of this task;
        the rest is merged again when it is asked for.
    """
    ours = turns(job)
    with ours.turn() as scratch:
        chosen = range(first, last)
        files = job.open(chosen)
        sizes = [sum(column) for column in zip(*(file.sizes() for file in files), strict=True)]
        spilled_bytes, spilled_keys = (np.concatenate([[0], np.cumsum(size)]) for size in sizes)
        parts: list[OutsidePart] = []
        offset = 0
        name = f"counted-{number}"
        with job.directory.writing(name) as write:
            for group, counted in merged_groups(files, chosen, job, scratch, ours.disk):
                distinct = len(counted[1])
                if not distinct:
                    continue
                begin, end = group.start - first, group.stop - first
                read_bytes = int(spilled_bytes[end] - spilled_bytes[begin])
                keys = int(spilled_keys[end] - spilled_keys[begin])
                stored = (8 * job.words + 8) * distinct
                held = read_bytes + (8 * job.words + 16) * keys
                if read_bytes > REPEATS * stored or held > job.share:
                    part = StoredPart.write(counted, job.directory, name, offset, write)
                    offset += part.size
                    parts.append(part)
                else:
                    parts.append(
                        MergedPart(
                            directory=job.directory,
                            job=job,
                            first=group.start,
                            last=group.stop,
                            **facts(counted),
                        )
                    )
    return parts


def histogram_of(
    parts: list[OutsidePart], plan: CountPlan, owner: SpillDirectory
) -> StateHistogram:
    """Return the result: loaded if it is small, else in files that live as long as it does.

    Parameters
    ----------
    parts : list of OutsidePart
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
        owner.remove_with_last()
        return StateHistogram.from_parts([replace(p, directory=owner) for p in parts], plan.width)
    room = empty_room(distinct, words)
    done = 0
    for part in parts:
        for target, values in zip(room, part.load(), strict=True):
            target[done : done + part.distinct] = values
        done += part.distinct
    owner.remove()
    return StateHistogram.from_parts([room], plan.width)
