"""Count states with Dask: the graph, and what runs it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import dask
import dask.local
import dask.multiprocessing
import dask.threaded
from dask.delayed import Delayed, delayed
from dask.diagnostics import ProgressBar

from tensorstate.counting.blocks import (
    Counted,
    Piece,
    count_block,
    merge_pieces,
    partition_bits,
)
from tensorstate.counting.histogram import StateHistogram
from tensorstate.counting.sources import Block, Span, cut, read

__all__ = ["count_states"]

MERGES_PER_THREAD = 4
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
    where = _scheduler()
    blocks, rows, width = cut(states, in_process=where.in_process)
    if not blocks:
        return StateHistogram.from_parts([], width)
    parts = _compute(_graph(blocks, width, partition_bits(rows), where), where, progress)
    return StateHistogram.from_parts(parts, width)


@dataclass(frozen=True)
class Scheduler:
    """Where tasks will run.

    Attributes
    ----------
    threads : int
        How many tasks run at once.
    in_process : bool
        Whether they run in this process.
    client
        The ``distributed`` client, or None.
    """

    threads: int
    in_process: bool
    client: Any = None


def _scheduler() -> Scheduler:
    """Find out what `dask.compute` will use, by Dask's own rules."""
    get = dask.base.get_scheduler(cls=Delayed)
    owner: Any = getattr(get, "__self__", None)
    if hasattr(owner, "scheduler_info"):
        return Scheduler(max(sum(owner.nthreads().values()), 1), False, owner)
    threads = dask.config.get("num_workers", None) or dask.system.CPU_COUNT
    if get is dask.local.get_sync:
        return Scheduler(1, True)
    if get is dask.threaded.get:
        return Scheduler(threads, True)
    return Scheduler(threads, False)


def _graph(blocks: Sequence[Block], width: int, bits: int, where: Scheduler) -> list[Delayed]:
    """Return one delayed part of the result for each range of partitions, in their order."""
    ranges = _ranges(1 << bits, where)
    count = delayed(_count, pure=False)
    merge = delayed(_merge, pure=False)
    counted = [
        count([span.source for span in block.spans], _without_sources(block), width, bits, ranges)
        for block in blocks
    ]
    return [merge([block[r] for block in counted]) for r in range(len(ranges))]


def _ranges(partitions: int, where: Scheduler) -> list[tuple[int, int]]:
    """Divide the partitions among merge tasks: enough of them to keep all threads busy."""
    tasks = 1 if where.threads == 1 else min(partitions, MERGES_PER_THREAD * where.threads)
    return list(pairwise(partitions * task // tasks for task in range(tasks + 1)))


def _without_sources(block: Block) -> Block:
    """Return a block whose sources travel apart, so that Dask sees those that are delayed."""
    spans = tuple(Span(None, span.start, span.stop, span.step) for span in block.spans)
    return Block(spans, block.first_row)


def _count(
    sources: list[Any], block: Block, width: int, bits: int, ranges: list[tuple[int, int]]
) -> list[list[Piece]]:
    spans = [
        Span(source, span.start, span.stop, span.step)
        for source, span in zip(sources, block.spans, strict=True)
    ]
    rows = sum(span.stop - span.start for span in spans)
    batches = read(Block(tuple(spans), block.first_row), width)
    pieces = count_block(batches, rows, width, block.first_row, bits)
    return [[piece.select(*edges) for piece in pieces] for edges in ranges]


def _merge(blocks: list[list[Piece]]) -> Counted:
    return merge_pieces([piece for pieces in blocks for piece in pieces])


def _compute(tasks: list[Delayed], where: Scheduler, progress: bool | None) -> list[Counted]:
    if not (sys.stderr.isatty() if progress is None else progress):
        return list(dask.compute(*tasks))
    silent = SILENT_SECONDS if progress is None else 0.0
    if where.client is None:
        with ProgressBar(minimum=silent, out=sys.stderr):
            return list(dask.compute(*tasks))
    return _compute_on_cluster(tasks, where.client, silent)


def _compute_on_cluster(tasks: list[Delayed], client: Any, silent: float) -> list[Counted]:
    import distributed

    futures = client.compute(tasks)
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
