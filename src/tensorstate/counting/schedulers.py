"""What runs the tasks of a count: Dask's schedulers, asked by Dask's own rules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import dask
import dask.core
import dask.local
import dask.multiprocessing
import dask.threaded
from dask.delayed import Delayed

from tensorstate.counting.memory import available_memory

__all__ = [
    "Graph",
    "Key",
    "Scheduler",
    "calling_thread",
    "find_scheduler",
    "threads_if",
    "workers_of",
]

Key: TypeAlias = Any
Graph: TypeAlias = dict[Key, Any]

WORKER_SHARE = 0.6
"""Which part of a worker's memory a count may use: above it, Dask moves results to disk."""


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

    @property
    def processes(self) -> int:
        """How many processes run tasks."""
        if self.in_process:
            return 1
        return self.threads if self.client is None else max(len(self.client.nthreads()), 1)

    @property
    def threads_per_process(self) -> int:
        """How many tasks run at once in one process, at most."""
        if self.in_process:
            return self.threads
        return 1 if self.client is None else max([*self.client.nthreads().values(), 1])

    def memory_limit(self, asked: int | None) -> int:
        """Return how many bytes a process that runs tasks may take.

        Parameters
        ----------
        asked : int or None
            What the user set; None: half of what is available.

        Returns
        -------
        int
            At most 60 % of the memory of the smallest worker, on a cluster.
        """
        workers = [] if self.client is None else _worker_limits(self.client)
        if workers:
            most = int(WORKER_SHARE * min(workers))
            return most if asked is None else min(asked, most)
        return available_memory() // (2 * self.processes) if asked is None else asked


def workers_of(client: Any) -> dict[str, dict[str, Any]]:
    """Return what a cluster's scheduler knows of each worker, by its address."""
    try:
        return dict(client.scheduler_info(n_workers=-1)["workers"])
    except TypeError:  # before the argument existed, it told of all workers
        return dict(client.scheduler_info()["workers"])


def _worker_limits(client: Any) -> list[int]:
    limits = (worker.get("memory_limit") for worker in workers_of(client).values())
    return [int(limit) for limit in limits if limit]


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


def threads_if(only_here: bool) -> AbstractContextManager[Any]:
    """Let threads of this process run the tasks meanwhile, if no other one has the rows."""
    return dask.config.set({"scheduler": "threads"} if only_here else {})  # type: ignore[no-any-return]


def calling_thread() -> Scheduler:
    """Return what runs the tasks in the thread that asks, and touches nothing that others see."""
    # Dask's schedulers take the callbacks that are registered for the whole process, and so would
    # meddle with what another thread computes.
    return Scheduler(dask.core.get, 1, True)
