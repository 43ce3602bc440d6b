"""What a count will cost, before it runs: the sizes that keep it within its memory limit.

A process may take L bytes. Some are for the libraries, and each of its tasks has the same share
of the rest. Let k be the bytes of a key (8 or 16). A row that is only divided takes k + 2 bytes,
and a key that is counted k + 16: if all rows of a count at 2 k + 18 bytes fit, all is done in
memory. Otherwise blocks are so small that a task's share holds the rows of one at 2 k + 18 bytes:
a map task needs less (k + 2 for a row that is divided, and k + 4 where it is laid out for the
file), and a merge can always take at least what one file has of a partition. Blocks need not be
large, though: small ones stay in memory that was used before, which is quicker than fresh memory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from tensorstate.counting import sources
from tensorstate.counting.keys import words_per_key
from tensorstate.counting.memory import MemoryLimit, as_text, parse_limit, spill_location
from tensorstate.counting.pieces import partition_bits
from tensorstate.counting.schedulers import Scheduler, find_scheduler
from tensorstate.counting.sources import Extent
from tensorstate.counting.spill_files import INDEX_BYTES

__all__ = ["CountPlan", "make_plan", "plan_count"]

MIB = 1 << 20

PROCESS_BYTES = 80 * MIB
"""For what a process takes besides its tasks: compiled code, and what the allocator holds back."""

TASK_BYTES = 8 * MIB
"""For the buffers of a task, whatever its block: keys in the making, and a table of slots."""

READ_COPIES = 3
"""A chunk is in memory compressed, decoded and put in its place."""

LEAST_READ = MIB
LEAST_ROWS = 1 << 16
SPILLED_BLOCK_ROWS = 1 << 22
SPILL_FILES = 128
"""More files than this are not made for the sake of small blocks: pieces of them get small."""

MOST_SPILLED_BITS = 12
MERGES_PER_THREAD = 2


@dataclass(frozen=True)
class CountPlan:
    """What a count will do and need. All sizes are in bytes.

    Attributes
    ----------
    rows, width : int
        How many packed states, and bytes of one.
    bytes_read : int
        Bytes of all rows, before compression.
    memory_limit : int
        What each process that runs tasks may take beyond what it has.
    peak_memory : int
        What it is expected to take at most, if no state comes twice.
    spills : bool
        Whether partial histograms go to files.
    spill_bytes : int
        What the files take at most; 0 if all is done in memory.
    spill : str
        The directory or URL where they would go.
    map_tasks, merge_tasks : int
        How many tasks count blocks, and how many merge what they found.
    at_once : int
        How many tasks run at once in a process.
    block_rows : int
        Rows of a block, unless a chunk has more.
    read_bytes : int
        How much of them is read at once, unless a chunk has more.
    partitions : int
        Ranges of the mixed hash; a power of two.
    share : int
        What one task may take for keys, tables and results.
    """

    rows: int
    width: int
    bytes_read: int
    memory_limit: int
    peak_memory: int
    spills: bool
    spill_bytes: int
    spill: str
    map_tasks: int
    merge_tasks: int
    at_once: int
    block_rows: int
    read_bytes: int
    partitions: int
    share: int

    def __repr__(self) -> str:
        where = f"in files below {self.spill}" if self.spills else "in memory"
        return (
            f"<CountPlan: {self.rows:,} states of {self.width} bytes, merged {where}\n"
            f"  reads     {as_text(self.bytes_read)} in {self.map_tasks} tasks, "
            f"{self.at_once} at once in a process\n"
            f"  merges    {self.partitions} partitions in {self.merge_tasks} tasks\n"
            f"  memory    {as_text(self.peak_memory)} at most, "
            f"of {as_text(self.memory_limit)} for each process\n"
            f"  spills    {as_text(self.spill_bytes)} at most>"
        )


def plan_count(
    states: Any,
    memory_limit: MemoryLimit = None,
    spill: str | os.PathLike[str] | None = None,
) -> CountPlan:
    """Tell what `count_states` would do and need, without reading any state.

    Parameters
    ----------
    states : (rows, W) uint8 array, or a list of them
        As for `count_states`.
    memory_limit : int, float or str, optional
        As for `count_states`.
    spill : str or path, optional
        As for `count_states`.

    Returns
    -------
    CountPlan

    Raises
    ------
    TypeError, ValueError
        As `count_states` raises them; a limit that is too small is refused with the smallest
        one that would do.

    Examples
    --------
    >>> import numpy as np
    >>> plan = plan_count(np.zeros((1_000_000, 16), np.uint8), "1 GiB")
    >>> plan.spills, plan.spill_bytes, plan.bytes_read
    (False, 0, 16000000)
    """
    return make_plan(states, memory_limit, spill, find_scheduler())


def make_plan(
    states: Any,
    memory_limit: MemoryLimit,
    spill: str | os.PathLike[str] | None,
    where: Scheduler,
) -> CountPlan:
    """Do what `plan_count` does, for a given scheduler."""
    extent = sources.measure(states)
    asked = parse_limit(memory_limit)
    limit = where.memory_limit(asked)
    key = 8 * words_per_key(extent.width)
    per_row = 2 * key + 18
    threads = where.threads_per_process
    least_rows = min(max(LEAST_ROWS, extent.chunk_rows), max(extent.rows, 1))
    least = PROCESS_BYTES + _task_bytes(extent, least_rows, LEAST_READ) + least_rows * per_row
    if asked is None:
        limit = max(limit, least)  # a limit that nobody set is no reason to refuse
    if limit < least:
        raise ValueError(
            f"a memory limit of {as_text(limit)} is too small to count {extent.rows:,} states of "
            f"{extent.width} bytes in chunks of {extent.chunk_rows:,}: "
            f"{least} bytes ({as_text(least)}) is the smallest that would do"
        )
    rest = limit - PROCESS_BYTES
    # Without a word from the other processes, each must be able to hold everything.
    everything = extent.rows * per_row * (1 if where.in_process else 2)
    held_rows = min(sources.BLOCK_ROWS, -(-extent.rows // threads))
    in_memory = everything + threads * _task_bytes(extent, held_rows, sources.READ_BYTES)
    if in_memory <= rest:
        share = (rest - extent.rows * (key + 2)) // threads
        return CountPlan(
            peak_memory=PROCESS_BYTES + in_memory,
            spills=False,
            spill_bytes=0,
            at_once=threads,
            block_rows=sources.rows_of_block(extent, where.threads),
            read_bytes=sources.READ_BYTES,
            share=share,
            **_common(extent, limit, partition_bits(extent.rows), where, spill),
        )
    at_once = max(min(threads, rest // (least - PROCESS_BYTES)), 1)
    read_bytes = max(min(sources.READ_BYTES, rest // at_once // 16), LEAST_READ)
    free = rest // at_once - _task_bytes(extent, 0, read_bytes)
    delayed = 2 * extent.width if extent.is_delayed else 0
    enough = max(SPILLED_BLOCK_ROWS, -(-extent.rows // SPILL_FILES))
    block_rows = min(max(free // (per_row + delayed), 1), enough)
    share = free - block_rows * delayed
    bits = partition_bits(extent.rows, MOST_SPILLED_BITS)
    common = _common(extent, limit, bits, where, spill, block_rows)
    index = INDEX_BYTES * common["map_tasks"] * ((1 << bits) + 1)
    return CountPlan(
        peak_memory=limit,
        spills=True,
        spill_bytes=extent.rows * per_row + index,
        at_once=at_once,
        block_rows=block_rows,
        read_bytes=read_bytes,
        share=share,
        **common,
    )


def _task_bytes(extent: Extent, block_rows: int, read_bytes: int) -> int:
    """Return what a task takes besides keys: buffers, a chunk, and rows that Dask holds."""
    read = max(extent.chunk_rows * extent.width, read_bytes) if extent.is_read else 0
    delayed = 2 * block_rows * extent.width if extent.is_delayed else 0
    return TASK_BYTES + READ_COPIES * read + delayed


def _common(
    extent: Extent,
    limit: int,
    bits: int,
    where: Scheduler,
    spill: str | os.PathLike[str] | None,
    most_rows: int | None = None,
) -> dict[str, Any]:
    """Return the facts that are the same with and without files; with `most_rows` of a block."""
    block_rows = sources.rows_of_block(extent, where.threads, most_rows)
    return {
        "rows": extent.rows,
        "width": extent.width,
        "bytes_read": extent.rows * extent.width,
        "memory_limit": limit,
        "spill": spill_location(spill),
        "partitions": 1 << bits,
        "map_tasks": -(-extent.rows // block_rows),
        "merge_tasks": min(1 << bits, MERGES_PER_THREAD * where.threads),
    }
