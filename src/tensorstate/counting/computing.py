"""Running the tasks of a count, and telling how far they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from dask.callbacks import Callback

from tensorstate.counting.progress import Advance, Work, show_progress, unseen
from tensorstate.counting.schedulers import Graph, Key, Scheduler, workers_of

__all__ = ["compute"]


def compute(
    graph: Graph, keys: list[Key], where: Scheduler, progress: bool | None, work: Work
) -> list[Any]:
    """Run a graph, and show how far it is.

    Parameters
    ----------
    graph : dict
        Tasks by key.
    keys : list
        Which results are wanted.
    where : Scheduler
        What runs them.
    progress : bool or None
        As in `count_states`.
    work : Work
        What is shown as done; each task has the same share of it.

    Returns
    -------
    list
        The results, in the order of `keys`.

    Raises
    ------
    ConnectionError
        If the scheduler of a cluster is lost meanwhile.
    """
    with _told_if_lost(where.client):
        return _compute(graph, keys, where, progress, work)


def _compute(
    graph: Graph, keys: list[Key], where: Scheduler, progress: bool | None, work: Work
) -> list[Any]:
    memory = None if where.client is None else lambda: _memory_of_workers(where.client)
    with show_progress(work, progress, memory=memory) as advance:
        if advance is unseen:
            return list(where.get(graph, keys))
        tasks = _Tasks(work.total or 0, advance)
        if where.client is None:
            with tasks:
                found = list(where.get(graph, keys))
        else:
            found = _compute_on_cluster(graph, keys, where.client, tasks.reach)
        tasks.finish()
    return found


@contextmanager
def _told_if_lost(client: Any) -> Iterator[None]:
    """Say which scheduler was lost, in place of which task was cancelled."""
    try:
        yield
    except CancelledError as error:
        if client is None or client.status == "running":
            raise
        raise ConnectionError(
            f"the connection to the Dask scheduler {client.scheduler.address} was lost in the "
            "middle of a count: see what became of the cluster, and count again"
        ) from error


class _Tasks(Callback):  # type: ignore[misc]
    """Tells how many of the tasks are done, in the unit of their work.

    Which tasks there are besides those of the graph, such as those that sources need, shows when
    they begin; so that progress never goes back, what is left is shared by the tasks that are left.
    """

    def __init__(self, total: int, advance: Advance) -> None:
        super().__init__()
        self._total = self._left = total
        self._advance = advance
        self._tasks = 0
        self._lock = threading.Lock()

    def finish(self) -> None:
        """Note that all is done, also what needed no task."""
        self._done(self._left)

    def reach(self, share: float) -> None:
        """Note that this share of all, from 0 to 1, is done."""
        self._done(max(int(share * self._total) - (self._total - self._left), 0))

    def _start_state(self, graph: Mapping[Any, Any], state: Mapping[str, Any]) -> None:
        self._tasks += len(state["waiting"]) + len(state["ready"])

    def _posttask(self, key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
        self._done(self._left // max(self._tasks, 1))
        self._tasks -= 1

    def _done(self, amount: int) -> None:
        with self._lock:
            amount = min(amount, self._left)
            self._left -= amount
        self._advance(amount)


def _compute_on_cluster(
    graph: Graph, keys: list[Key], client: Any, reach: Callable[[float], None]
) -> list[Any]:
    import distributed

    futures = client.get(graph, keys, sync=False)
    try:
        with _followed(futures, client, reach):
            distributed.wait(futures)
        return list(client.gather(futures))
    finally:
        client.cancel(futures)


@contextmanager
def _followed(futures: list[Any], client: Any, reach: Callable[[float], None]) -> Iterator[None]:
    """Let the scheduler tell meanwhile which share of the tasks behind futures is done."""
    from distributed.diagnostics.progressbar import ProgressBar

    class Feed(ProgressBar):  # type: ignore[misc]
        def _draw_bar(self, remaining: int, all: int, **kwargs: Any) -> None:
            if all:
                reach(1 - remaining / all)

    feed = Feed(futures, scheduler=client.scheduler.address, interval="250ms")
    # What it cannot tell, as of a scheduler that takes no functions, is not shown.
    told = asyncio.run_coroutine_threadsafe(feed.listen(), client.loop.asyncio_loop)
    try:
        yield
    finally:
        told.cancel()


def _memory_of_workers(client: Any) -> int:
    return sum(int(worker["metrics"]["memory"]) for worker in workers_of(client).values())
