"""Count states with Dask: the graph."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from dask.delayed import Delayed

from tensorstate.counting.blocks import count_block, count_claims
from tensorstate.counting.claims import Claims
from tensorstate.counting.computing import compute
from tensorstate.counting.histogram import StateHistogram
from tensorstate.counting.memory import MemoryLimit, give_back
from tensorstate.counting.out_of_core import (
    histogram_of,
    merge_graph,
    spill_block,
    spill_job,
)
from tensorstate.counting.pieces import (
    Counted,
    Piece,
    empty_room,
    entries,
    merge_pieces,
    merged,
    part_of,
)
from tensorstate.counting.plan import MERGES_PER_THREAD, CountPlan, make_plan
from tensorstate.counting.progress import Work
from tensorstate.counting.schedulers import (
    Graph,
    Key,
    Scheduler,
    calling_thread,
    find_scheduler,
)
from tensorstate.counting.sources import Block, cut, read
from tensorstate.counting.spill import SpillDirectory

__all__ = ["count_here", "count_states"]

MOST_COPIES = 1 << 12
"""So many selections go from blocks to merges: Dask takes longer for one than to merge its keys."""


def count_states(
    states: Any,
    *,
    memory_limit: MemoryLimit = None,
    spill: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> StateHistogram:
    """Count how often each distinct state occurs.

    Counting runs on the active ``distributed`` client if there is one, else on Dask's
    configured scheduler, by default on threads. What does not fit the memory limit goes to
    files; the result is the same. `plan_count` tells beforehand what a count will need.

    Parameters
    ----------
    states : (rows, W) uint8 array, or a list of them
        Packed states: NumPy, Zarr or Dask arrays, or anything with ``shape``, ``dtype`` and
        slices of rows that are NumPy arrays (if it has ``chunks``, reads follow them; it must
        pickle where tasks run in other processes). Rows are numbered through the list.
    memory_limit : int, float or str, optional
        Bytes, or text such as "2 GiB", that each process that runs tasks may take beyond what
        it has. By default what Dask's configuration says as ``tensorstate.memory-limit``, or
        else half of what is available, control groups included. On a cluster it is never more
        than 60 % of the memory of a worker.
    spill : str or path, optional
        A directory, or an fsspec URL, that all processes reach. Files are in a private
        directory below it, which is removed at the end, also after an error; if the result
        itself is larger than a quarter of the limit, the directory lives as long as the
        histogram. By default ``tensorstate.spill`` or ``temporary-directory`` of Dask's
        configuration, or else the system's directory for temporary files.
    progress : bool, optional
        Whether to show how far it is: with a bar on a terminal (stderr) or in a notebook, else
        with lines on stderr. By default what Dask's configuration says as
        ``tensorstate.progress``, or else it is shown on a terminal and in a notebook if counting
        takes more than two seconds.

    Returns
    -------
    StateHistogram
        Exact for W <= 16. For wider states, two different ones are taken for one with a
        probability below u**2 / 2**129 for u distinct states.

    Raises
    ------
    TypeError
        If `states` is not an array of uint8.
    ValueError
        If it is not two-dimensional, has rows of zero bytes, is an empty list or one of arrays
        of different widths, or a Dask array with chunks of unknown sizes; or if the limit is
        too small, with the smallest that would do.
    OSError
        If spill files cannot be written, such as on a full disk.

    Examples
    --------
    >>> import numpy as np
    >>> count_states(np.array([[1, 2], [0, 0], [1, 2]], np.uint8), memory_limit="1 GiB")
    <StateHistogram: 2 distinct of 3 states, 2 bytes each>
    """
    return _count_on(find_scheduler(), states, memory_limit, spill, progress)


def count_here(
    states: Any,
    *,
    memory_limit: MemoryLimit = None,
    spill: str | os.PathLike[str] | None = None,
) -> StateHistogram:
    """Do what `count_states` does in the calling thread alone, for one that works unseen.

    Dask's schedulers, and what is set up for them by other threads, are left alone, and no bar is
    drawn.

    Examples
    --------
    >>> import numpy as np
    >>> count_here(np.array([[1, 2], [0, 0], [1, 2]], np.uint8))
    <StateHistogram: 2 distinct of 3 states, 2 bytes each>
    """
    return _count_on(calling_thread(), states, memory_limit, spill, progress=False)


def _count_on(
    where: Scheduler,
    states: Any,
    memory_limit: MemoryLimit,
    spill: str | os.PathLike[str] | None,
    progress: bool | None,
) -> StateHistogram:
    plan = make_plan(states, memory_limit, spill, where)
    blocks, _, width = cut(
        states,
        where.threads,
        in_process=where.in_process,
        most_rows=plan.block_rows if plan.spills else None,
        read_bytes=plan.read_bytes,
    )
    if not blocks:
        return StateHistogram.from_parts([], width)
    if plan.spills:
        return _count_through_files(blocks, plan, where, progress)
    return _count_in_memory(blocks, plan, where, progress)


def _count_in_memory(
    blocks: list[Block], plan: CountPlan, where: Scheduler, progress: bool | None
) -> StateHistogram:
    bits = plan.partitions.bit_length() - 1
    work = _work(blocks)
    # With more blocks than threads, Dask gives the next one to the thread that is free.
    if where.in_process and 1 < len(blocks) <= where.threads and Claims.suit(blocks):
        graph, counted = _claim_graph(Claims(blocks, plan.width, len(blocks)), bits, plan.share)
    else:
        is_all = len(blocks) == 1
        graph, counted = _block_graph(_count, blocks, plan.width, bits, plan.share, is_all)
    if len(blocks) == 1:
        whole = "whole-" + counted[0][0]
        parts = compute(graph | {whole: (merged, counted[0])}, [whole], where, progress, work)
    elif where.in_process:
        results = _merge_in_one_room(graph, counted, _ranges(bits, where.threads))
        room, *filled = compute(graph, results, where, progress, work)
        parts = _parts(room, filled)
    else:
        ranges = _ranges(bits, where.threads, MOST_COPIES // len(blocks))
        results = _merge_copies(graph, counted, ranges)
        parts = compute(graph, results, where, progress, work)
    return StateHistogram.from_parts(parts, plan.width)


def _count_through_files(
    blocks: list[Block], plan: CountPlan, where: Scheduler, progress: bool | None
) -> StateHistogram:
    directory = SpillDirectory.create(plan.spill)
    try:
        job = spill_job(plan, replace(directory), len(blocks))
        graph, spilled = _block_graph(spill_block, blocks, job)
        merges, results = merge_graph(spilled, job, plan.merge_tasks)
        work = replace(_work(blocks), spilled=directory.size)
        found = compute(graph | merges, results, where, progress, work)
        return histogram_of([part for parts in found for part in parts], plan, directory)
    except BaseException:
        directory.remove()
        raise
    finally:
        give_back()


def _work(blocks: list[Block]) -> Work:
    return Work("counting", "states", sum(block.rows for block in blocks))


def _block_graph(
    task: Callable[..., Any], blocks: list[Block], *args: Any
) -> tuple[Graph, list[Key]]:
    """Return a task for each block, called with it, its number and `args`; and their keys."""
    name = f"count-{uuid.uuid4().hex}"
    graph: Graph = {}
    for number, block in enumerate(blocks):
        # The sources are an argument of their own, where Dask finds those that are tasks.
        sources = []
        for span in block.spans:
            if isinstance(span.source, Delayed):
                graph.update(span.source.dask)
                sources.append(span.source.key)
            else:
                sources.append(span.source)
        spans = tuple(replace(span, source=None) for span in block.spans)
        graph[name, number] = (_run, sources, replace(block, spans=spans), number, task, *args)
    return graph, [(name, number) for number in range(len(blocks))]


def _claim_graph(claims: Claims, bits: int, table_bytes: int) -> tuple[Graph, list[Key]]:
    """Return a task for each thread that claims rows, and their keys."""
    name = f"count-{uuid.uuid4().hex}"
    keys = [(name, number) for number in range(claims.threads)]
    return dict.fromkeys(keys, (count_claims, claims, bits, table_bytes)), keys


def _run(
    sources: list[Any], block: Block, number: int, task: Callable[..., Any], *args: Any
) -> Any:
    pairs = zip(block.spans, sources, strict=True)
    spans = tuple(replace(span, source=source) for span, source in pairs)
    return task(replace(block, spans=spans), number, *args)


def _count(
    block: Block, number: int, width: int, bits: int, table_bytes: int, is_all: bool
) -> list[Piece]:
    rows = read(block, width)
    return count_block(rows, block.rows, width, block.first_row, bits, table_bytes, is_all=is_all)


def _ranges(bits: int, threads: int, most: int | None = None) -> list[tuple[int, int]]:
    """Divide the partitions among merge tasks: enough for all threads, `most` at most."""
    partitions = 1 << bits
    tasks = 1 if threads == 1 else min(partitions, MERGES_PER_THREAD * threads)
    tasks = tasks if most is None else max(min(tasks, most), 1)
    return list(pairwise(partitions * task // tasks for task in range(tasks + 1)))


# Tasks in one process: all merge into the same arrays, each into a part that no other one
# touches, so that a large result need not be copied. A task that ran twice would write the same.


def _merge_in_one_room(
    graph: Graph, counted: list[Key], ranges: list[tuple[int, int]]
) -> list[Key]:
    room = "room-" + counted[0][0]
    graph[room] = (_room, counted)
    merge = "merge-" + counted[0][0]
    for number, edges in enumerate(ranges):
        graph[merge, number] = (_merge_into, counted, room, *edges)
    return [room, *((merge, number) for number in range(len(ranges)))]


def _room(blocks: list[list[Piece]]) -> Counted:
    pieces = _all(blocks)
    return empty_room(entries(pieces), pieces[0].keys.ndim)


def _merge_into(blocks: list[list[Piece]], room: Counted, first: int, last: int) -> slice:
    pieces = _all(blocks)
    begin = entries(pieces, 0, first)
    end = begin + entries(pieces, first, last)
    return slice(begin, begin + merge_pieces(pieces, first, last, part_of(room, begin, end)))


def _parts(room: Counted, filled: list[slice]) -> list[Counted]:
    """Return what merges filled: as one part, where they left no gap."""
    distinct = sum(part.stop - part.start for part in filled)
    if distinct == filled[-1].stop:
        return [part_of(room, 0, distinct)]
    return [part_of(room, part.start, part.stop) for part in filled]


# Tasks in several processes: each is sent a copy of what it merges, and sends back the result.


def _merge_copies(graph: Graph, counted: list[Key], ranges: list[tuple[int, int]]) -> list[Key]:
    select, merge = "select-" + counted[0][0], "merge-" + counted[0][0]
    for number, edges in enumerate(ranges):
        selected = [(select, block, number) for block in range(len(counted))]
        for key, pieces in zip(selected, counted, strict=True):
            graph[key] = (_select, pieces, *edges)
        graph[merge, number] = (_merge, selected)
    return [(merge, number) for number in range(len(ranges))]


def _select(pieces: list[Piece], first: int, last: int) -> list[Piece]:
    return [piece.select(first, last) for piece in pieces]


def _merge(blocks: list[list[Piece]]) -> Counted:
    return merged(_all(blocks))


def _all(blocks: list[list[Piece]]) -> list[Piece]:
    return [piece for pieces in blocks for piece in pieces]
