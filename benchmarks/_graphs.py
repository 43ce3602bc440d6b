"""The graphs of counts of many states, as the package makes them, and what they would cost."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import dask
import numpy as np

import tensorstate as ts
from benchmarks._cost import Costs
from benchmarks._simulated import Modelled, address
from tensorstate.counting.keys import words_per_key
from tensorstate.counting.merging import SpillJob

__all__ = ["Cluster", "Planned", "Rows", "modelled", "planned"]

CHUNK_ROWS = 1 << 18


class Rows:
    """As much of a chunked array of states as is looked at before it is read.

    Parameters
    ----------
    rows, width : int
        How many states, and bytes of one.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, rows: int, width: int = 16) -> None:
        self.shape = (rows, width)
        self.chunks = (CHUNK_ROWS, width)

    def __getitem__(self, rows: Any) -> Any:
        raise NotImplementedError("there are no states behind this array: it can only be planned")


class StandIn:
    """What a count takes for the client of a cluster: it keeps the graph, and runs nothing.

    ``dask.config.set(scheduler=stand_in.get)`` makes it the one that is asked.

    Parameters
    ----------
    workers, threads : int
        How many workers there are, and how many threads each has.
    memory : int
        Bytes that each worker has.

    Attributes
    ----------
    graph : dict
        The tasks that were to be run.
    keys : list
        The results that were wanted.
    """

    def __init__(self, workers: int, threads: int, memory: int) -> None:
        self._threads = {address(number): threads for number in range(workers)}
        self._memory = memory
        self.graph: dict[Any, Any] = {}
        self.keys: list[Any] = []

    def scheduler_info(self, n_workers: int = -1) -> dict[str, Any]:
        return {"workers": {name: {"memory_limit": self._memory} for name in self._threads}}

    def nthreads(self) -> dict[str, int]:
        return self._threads

    def get(self, graph: dict[Any, Any], keys: list[Any], **options: Any) -> list[Any]:
        self.graph, self.keys = dict(graph), list(keys)
        return []


class Cluster(NamedTuple):
    """How many workers there are, and threads and bytes of memory of each."""

    workers: int
    threads: int
    memory: int


@dataclass(frozen=True)
class Planned:
    """The graph of a count.

    Attributes
    ----------
    graph : dict
        Tasks by key.
    keys : list
        Which results are wanted.
    job : SpillJob or None
        What its tasks know; None if it is done in memory.
    """

    graph: dict[Any, Any]
    keys: list[Any]
    job: SpillJob | None

    @property
    def dependencies(self) -> int:
        """How many dependencies there are between tasks."""
        found = (dask.core.get_dependencies(self.graph, key) for key in self.graph)
        return sum(map(len, found))

    @property
    def merges(self) -> int:
        """How many tasks merge."""
        return sum(step_of(key) == "merge" for key in self.graph)

    def opened(self, distinct: int) -> int:
        """Return how often a spill file is opened until all are merged.

        Each merge task reads where its partitions begin in each file, and then opens each of them
        once for as many partitions as it can merge together.
        """
        if self.job is None:
            return 0
        job, keys = self.job, self._spilled_keys(distinct)
        key_bytes = entry_bytes(job.words, distinct, self.rows) + 8 * job.words + 16
        at_once = max(int(job.group_bytes // max(keys / (1 << job.bits) * key_bytes, 1)), 1)
        groups = math.ceil((1 << job.bits) / self.merges / at_once) * self.merges
        return job.files * (self.merges + groups)

    def spilled_bytes(self, distinct: int) -> float:
        """Return how many bytes all spill files have, but for their indexes."""
        if self.job is None:
            return 0
        return self._spilled_keys(distinct) * entry_bytes(self.job.words, distinct, self.rows)

    @property
    def rows(self) -> int:
        """How many states are counted."""
        return sum(rows_of(task) for key, task in self.graph.items() if step_of(key) == "count")

    def _spilled_keys(self, distinct: int) -> int:
        counts = (task for key, task in self.graph.items() if step_of(key) == "count")
        return sum(min(rows_of(task), distinct) for task in counts)


def planned(rows: int, cluster: Cluster, width: int = 16, limit: int | None = None) -> Planned:
    """Let `tensorstate.count_states` make the graph of a count on a cluster.

    Parameters
    ----------
    rows, width : int
        How many states, and bytes of one.
    cluster : Cluster
        Where it would run.
    limit : int, optional
        The memory limit; by default, what a count takes of each worker.

    Returns
    -------
    Planned

    Examples
    --------
    >>> found = planned(10**12, Cluster(workers=100, threads=4, memory=64 << 30))
    >>> found.merges, found.dependencies < 4 * len(found.graph)
    (800, True)
    """
    stand_in = StandIn(*cluster)
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler=stand_in.get):
        ts.count_states(Rows(rows, width), memory_limit=limit, spill=folder, progress=False)
    merges = [task for key, task in stand_in.graph.items() if step_of(key) == "merge"]
    jobs = [task[-1] for task in merges if isinstance(task[-1], SpillJob)]
    return Planned(stand_in.graph, stand_in.keys, jobs[0] if jobs else None)


def modelled(count: Planned, costs: Costs, width: int, distinct: int) -> dict[Any, Modelled]:
    """Return what each task of a count through files takes.

    Parameters
    ----------
    count : Planned
        A count that spills.
    costs : Costs
        For one row, one byte and so on.
    width, distinct : int
        Bytes of a state, and how many distinct ones there are.

    Raises
    ------
    ValueError
        If it does not spill.
    """
    if count.job is None:
        raise ValueError("the count does not spill: model one of more states")
    job, merges = count.job, count.merges
    entry = entry_bytes(words_per_key(width), distinct, count.rows)
    merge = {
        "distinct": distinct / merges,
        "moved_bytes": count.spilled_bytes(distinct) / merges,
        "opened": count.opened(distinct) / merges,
        "merge_tasks": 1,
    }
    merge_cost = Modelled(
        "merge", costs.merge_seconds(merge), 100 * max((1 << job.bits) // merges, 1)
    )
    found = {}
    for key, task in count.graph.items():
        step = step_of(key)
        if step == "count":
            rows = rows_of(task)
            keys = min(rows, distinct)
            facts = {
                "read_bytes": rows * width,
                "rows": rows,
                "distinct": keys,
                "spilled_bytes": keys * entry,
                "map_tasks": 1,
            }
            found[key] = Modelled("count and spill", costs.map_seconds(facts))
        else:
            found[key] = merge_cost if step == "merge" else Modelled("wait for all", 0.0)
    return found


def entry_bytes(words: int, distinct: int, rows: int) -> int:
    """Return what a spill file takes for a state: a key, a row and, where some repeat, a count."""
    return 8 * words + (8 if distinct < rows else 4)


def rows_of(task: tuple[Any, ...]) -> int:
    """Return how many rows are counted by a task, which has the block as an argument."""
    return int(task[2].rows)


def step_of(key: Any) -> str:
    """Return what a task does, by the beginning of its key."""
    return str(key[0] if isinstance(key, tuple) else key).partition("-")[0]


def shares(costs: Costs, facts: Mapping[str, float]) -> dict[str, float]:
    """Return the thread-seconds of a count by what they are spent for."""
    spent = {f"map: {name}": cost * facts[name] for name, cost in costs.map.items()}
    merge = {f"merge: {name}": cost * facts[name] for name, cost in costs.merge.items()}
    return spent | merge
