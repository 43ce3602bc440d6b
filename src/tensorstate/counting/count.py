"""Count states with Dask: the graph, and what runs it."""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import dask
import dask.local
import dask.multiprocessing
import dask.threaded
from dask.delayed import Delayed
from dask.diagnostics import ProgressBar

from tensorstate.counting.blocks import (
    Counted,
    Piece,
    count_block,
    empty_room,
    entries,
    merge_pieces,
    merged,
    part_of,
    partition_bits,
)
from tensorstate.counting.histogram import StateHistogram
from tensorstate.counting.sources import Block, cut, read

__all__ = ["count_states"]

Key: TypeAlias = Any
Graph: TypeAlias = dict[Key, Any]

MERGES_PER_THREAD = 2
SILENT_SECONDS = 2.0


def count_states(states: Any, *, progress: bool | None = None) -> StateHistogram:
    """Count how often each distinct state occurs.

    Counting runs on the active ``distributed`` client if there is one, else on Dask's
    configured scheduler, by default on threads.

    Parameters
    ----------
    states : (rows, W) uint8 array, or a list of them
        Packed states: NumPy, Zarr or Dask arrays, or anything with ``shape``, ``dtype`` and
        slices of rows that are NumPy arrays (if it has ``chunks``, reads follow them; it must
        pickle where tasks run in other processes). Rows are numbered through the list.
    progress : bool, optional
        Whether to draw a bar on stderr. By default one is drawn if stderr is a terminal and
        counting takes more than two seconds.

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
        of different widths, or a Dask array with chunks of unknown sizes.

    Examples
    --------
    >>> import numpy as np
    >>> count_states(np.array([[1, 2], [0, 0], [1, 2]], np.uint8))
    <StateHistogram: 2 distinct of 3 states, 2 bytes each>
    """
    where = find_scheduler()
    blocks, rows, width = cut(states, where.threads, in_process=where.in_process)
    if not blocks:
        return StateHistogram.from_parts([], width)
    bits = partition_bits(rows)
    ranges = _ranges(bits, where.threads)
    graph, counted = _count_graph(blocks, width, bits)
    if where.in_process:
        results = _merge_in_one_room(graph, counted, ranges)
        room, *filled = _compute(graph, results, where, progress)
        parts = _parts(room, filled)
    else:
        results = _merge_copies(graph, counted, ranges)
        parts = _compute(graph, results, where, progress)
    return StateHistogram.from_parts(parts, width)


@dataclass(frozen=True)
class Scheduler:
    """What runs the tasks.

    Attributes
    ----------
    get : callable
        Called with a graph and a list of its keys, it returns their values.
    threads : int
        How many tasks run at once.
    in_process : bool
        Whether they run in this process.
    client
        The ``distributed`` client, or None.
    """

    get: Callable[..., Any]
    threads: int
    in_process: bool
    client: Any = None


def find_scheduler() -> Scheduler:
    """Find what is to run the tasks, by the rules of `dask.compute`."""
    get = dask.base.get_scheduler(cls=Delayed)
    owner: Any = getattr(get, "__self__", None)
    if hasattr(owner, "scheduler_info"):
        return Scheduler(get, max(sum(owner.nthreads().values()), 1), False, owner)
    threads = dask.config.get("num_workers", None) or dask.system.CPU_COUNT
    if get is dask.local.get_sync:
        return Scheduler(get, 1, True)
    return Scheduler(get, threads, get is dask.threaded.get)


def _count_graph(blocks: list[Block], width: int, bits: int) -> tuple[Graph, list[Key]]:
    """Return the tasks that count blocks, and their keys."""
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
        graph[name, number] = (_count, sources, replace(block, spans=spans), width, bits)
    return graph, [(name, number) for number in range(len(blocks))]


def _count(sources: list[Any], block: Block, width: int, bits: int) -> list[Piece]:
    pairs = zip(block.spans, sources, strict=True)
    block = replace(block, spans=tuple(replace(span, source=source) for span, source in pairs))
    return count_block(read(block, width), block.rows, width, block.first_row, bits)


def _ranges(bits: int, threads: int) -> list[tuple[int, int]]:
    """Divide the partitions among merge tasks: enough of them to keep all threads busy."""
    partitions = 1 << bits
    tasks = 1 if threads == 1 else min(partitions, MERGES_PER_THREAD * threads)
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


def _compute(graph: Graph, keys: list[Key], where: Scheduler, progress: bool | None) -> list[Any]:
    if not (sys.stderr.isatty() if progress is None else progress):
        return list(where.get(graph, keys))
    silent = SILENT_SECONDS if progress is None else 0.0
    if where.client is None:
        with ProgressBar(minimum=silent, out=sys.stderr):
            return list(where.get(graph, keys))
    return _compute_on_cluster(graph, keys, where.client, silent)


def _compute_on_cluster(graph: Graph, keys: list[Key], client: Any, silent: float) -> list[Any]:
    import distributed

    futures = client.get(graph, keys, sync=False)
    try:
        with contextlib.suppress(TimeoutError):
            distributed.wait(futures, timeout=silent)
        if not all(future.done() for future in futures):
            with contextlib.redirect_stdout(sys.stderr):
                distributed.progress(futures, notebook=False)
                distributed.wait(futures)
                print()
        return list(client.gather(futures))
    finally:
        client.cancel(futures)
