"""A simulated cluster: Dask's own client and scheduler, and workers that only take modelled time.

The graph of a count is sent by a real client to a real scheduler, in this process. Its workers run
nothing: a task that the scheduler sends to one takes the time that is modelled for it, on a clock
of the simulation, and so does what it needs of other workers. What the scheduler does is not
modelled. It is done, and the processor time that it takes here passes on the simulated clock too,
one message after the other.

Work stealing is off, since it follows the real clock.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import dask
import distributed
from distributed import Client, Scheduler
from distributed.utils import silence_logging_cmgr

__all__ = ["Modelled", "Network", "Simulated", "address", "simulate"]

SETTINGS = {
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.worker-ttl": None,
    "distributed.scheduler.events-cleanup-delay": "1h",
    "distributed.comm.timeouts.connect": "60s",
}
METRICS: dict[str, Any] = {
    "bandwidth": {"total": 1e8, "workers": {}, "types": {}},
    "digests_total_since_heartbeat": {},
    "spilled_bytes": {"memory": 0, "disk": 0},
    "memory": 0,
}
POLL_SECONDS = 0.001


class Modelled(NamedTuple):
    """What a task takes.

    Attributes
    ----------
    step : str
        What it belongs to.
    seconds : float
        Of one thread.
    nbytes : int
        Size of its result.
    """

    step: str
    seconds: float
    nbytes: int = 100


class Network(NamedTuple):
    """Seconds until a message arrives, and bytes a second that a worker can receive."""

    latency: float = 0.0005
    bandwidth: float = 1.25e9


class Simulated(NamedTuple):
    """What was found.

    Attributes
    ----------
    tasks, dependencies : int
        Of the graph, as the scheduler holds it.
    seconds : float
        On the simulated clock, from the graph's being sent to the last result.
    graph_seconds : float
        Until the scheduler had the graph.
    scheduler_seconds : float
        What it took the scheduler to follow the tasks from then on.
    busy : dict of str to float
        Thread-seconds of the tasks of each step.
    ends : dict of str to float
        When the last task of each step ended.
    transfers, transferred : int
        How often a worker got results of another one, and their bytes.
    """

    tasks: int
    dependencies: int
    seconds: float
    graph_seconds: float
    scheduler_seconds: float
    busy: dict[str, float]
    ends: dict[str, float]
    transfers: int
    transferred: int


@dataclass
class Worker:
    """A worker: how many threads are free, which tasks wait for one, and whose results it has."""

    free: int
    waiting: list[Any] = field(default_factory=list)
    held: set[Any] = field(default_factory=set)
    link_free: float = 0.0


class Inbox:
    """Takes what the scheduler sends to a worker, in the place of its connection."""

    def __init__(self, address: str, received: list[tuple[str, dict[str, Any]]]) -> None:
        self.name = self._address = address
        self._received = received

    def send(self, *messages: dict[str, Any]) -> None:
        self._received.extend((self._address, message) for message in messages)

    async def write(self, message: Any) -> None:
        """Take the greeting."""

    def closed(self) -> bool:
        return True

    async def close(self) -> None:
        """Close nothing."""

    def abort(self) -> None:
        """Close nothing."""


class QuietScheduler(Scheduler):  # type: ignore[misc]
    """Dask's scheduler, which hands messages for workers to their inboxes at once."""

    async def handle_worker(self, comm: Any, worker: str) -> None:
        self.stream_comms[worker] = comm


def address(number: int) -> str:
    """Return the address of a worker."""
    return f"tcp://10.{number >> 16}.{number >> 8 & 255}.{number & 255}:9000"


def simulate(
    graph: Mapping[Any, Any],
    keys: Sequence[Any],
    costs: Mapping[Any, Modelled],
    workers: int,
    threads: int = 1,
    network: Network = Network(),  # noqa: B008
) -> Simulated:
    """Run a graph on a simulated cluster.

    Parameters
    ----------
    graph : dict
        Tasks by key, as for ``Client.get``. None of them is run.
    keys : sequence
        The results that are wanted.
    costs : mapping
        What each task takes, by its key.
    workers, threads : int
        How many workers there are, and how many threads each has.
    network : Network
        Between the scheduler and all workers.

    Returns
    -------
    Simulated

    Raises
    ------
    RuntimeError
        If the scheduler refuses the graph, or not all of its tasks come to an end.

    Examples
    --------
    >>> graph = {"a": (max, 1, 2), "b": (max, "a", 3)}
    >>> costs = {"a": Modelled("first", 2.0), "b": Modelled("second", 3.0)}
    >>> found = simulate(graph, ["b"], costs, workers=2)
    >>> found.tasks, found.dependencies, 5 < found.seconds < 6
    (2, 1, True)
    """
    with dask.config.set(SETTINGS), silence_logging_cmgr(logging.WARNING):
        return asyncio.run(_simulate(graph, keys, costs, workers, threads, network))


async def _simulate(
    graph: Mapping[Any, Any],
    keys: Sequence[Any],
    costs: Mapping[Any, Modelled],
    workers: int,
    threads: int,
    network: Network,
) -> Simulated:
    received: list[tuple[str, dict[str, Any]]] = []
    async with (
        QuietScheduler(
            protocol="inproc://", dashboard=False, dashboard_address="127.0.0.1:0", validate=False
        ) as scheduler,
        Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
    ):
        for number in range(workers):
            await _add(scheduler, number, threads, received)
        received.clear()
        begin = time.perf_counter()
        futures = client.get(dict(graph), list(keys), sync=False)
        while not all(key in scheduler.tasks for key in keys):
            await asyncio.sleep(POLL_SECONDS)
            if any(future.status in ("error", "cancelled") for future in futures):
                raise RuntimeError("the scheduler refused the graph of a count")
        sent = time.perf_counter() - begin
        tasks = len(scheduler.tasks)
        dependencies = sum(len(task.dependencies) for task in scheduler.tasks.values())
        clock = _Clock(scheduler, received, costs, workers, threads, network, sent)
        clock.run()
        if clock.done < tasks:
            raise RuntimeError(f"only {clock.done} of {tasks} tasks of a count came to an end")
        for future in futures:
            future.release()
    return Simulated(
        tasks,
        dependencies,
        max(clock.ends.values(), default=sent),
        sent,
        clock.scheduler_seconds,
        dict(clock.busy),
        clock.ends,
        clock.transfers,
        clock.transferred,
    )


async def _add(
    scheduler: Scheduler, number: int, threads: int, received: list[tuple[str, dict[str, Any]]]
) -> None:
    name = address(number)
    await scheduler.add_worker(
        Inbox(name, received),
        address=name,
        status="running",
        server_id=name,
        nthreads=threads,
        name=name,
        resolve_address=False,
        now=time.time(),
        resources={},
        memory_limit=None,
        metrics=METRICS,
        services={},
        local_directory="",
        versions=distributed.versions.get_versions(),
        nanny="",
        extra={},
        stimulus_id="simulated",
    )


class _Clock:
    """Lets events happen in the order of the simulated clock."""

    def __init__(
        self,
        scheduler: Scheduler,
        received: list[tuple[str, dict[str, Any]]],
        costs: Mapping[Any, Modelled],
        workers: int,
        threads: int,
        network: Network,
        begin: float,
    ) -> None:
        self._scheduler = scheduler
        self._received = received
        self._costs = costs
        self._network = network
        self._workers = {address(number): Worker(threads) for number in range(workers)}
        self._events: list[Any] = []
        self._order = itertools.count()
        self._scheduler_free = begin
        self.scheduler_seconds = 0.0
        self.done = self.transfers = self.transferred = 0
        self.busy: defaultdict[str, float] = defaultdict(float)
        self.ends: dict[str, float] = {}

    def run(self) -> None:
        self._deliver()
        while self._events:
            now, _, happen, arguments = heapq.heappop(self._events)
            happen(now, *arguments)

    def _at(self, moment: float, happen: Any, *arguments: Any) -> None:
        heapq.heappush(self._events, (moment, next(self._order), happen, arguments))

    def _tell(self, now: float, handle: Any, **message: Any) -> None:
        """Let the scheduler handle a message, when it has done those before."""
        begin = time.perf_counter()
        handle(**message)
        took = time.perf_counter() - begin
        self.scheduler_seconds += took
        self._scheduler_free = max(self._scheduler_free, now + self._network.latency) + took
        self._deliver()

    def _deliver(self) -> None:
        arrival = self._scheduler_free + self._network.latency
        for name, message in self._received:
            if message["op"] == "compute-task":
                self._at(arrival, self._fetch, name, message)
            elif message["op"] == "free-keys":
                self._at(arrival, self._forget, name, message["keys"])
        self._received.clear()

    def _forget(self, now: float, name: str, keys: Sequence[Any]) -> None:
        self._workers[name].held.difference_update(keys)

    def _fetch(self, now: float, name: str, message: dict[str, Any]) -> None:
        """Get what a task needs from the workers that have it, and then let it wait its turn."""
        worker = self._workers[name]
        missing = [key for key in message["who_has"] if key not in worker.held]
        if not missing:
            self._ready(now, name, message, missing)
            return
        size = sum(message["nbytes"][key] for key in missing)
        peers = len({message["who_has"][key][0] for key in missing})
        taken = peers * self._network.latency + size / self._network.bandwidth
        worker.link_free = max(now, worker.link_free) + taken
        worker.held.update(missing)
        self.transfers += len(missing)
        self.transferred += size
        self._at(worker.link_free, self._ready, name, message, missing)

    def _ready(self, now: float, name: str, message: dict[str, Any], fetched: list[Any]) -> None:
        if fetched:
            stimulus = {"stimulus_id": "simulated"}
            self._tell(now, self._scheduler.add_keys, worker=name, keys=fetched, **stimulus)
        entry = (message["priority"], next(self._order), message)
        heapq.heappush(self._workers[name].waiting, entry)
        self._start(now, name)

    def _start(self, now: float, name: str) -> None:
        worker = self._workers[name]
        while worker.free and worker.waiting:
            worker.free -= 1
            *_, message = heapq.heappop(worker.waiting)
            seconds = self._costs[message["key"]].seconds
            self._at(now + seconds, self._end, name, message, now)

    def _end(self, now: float, name: str, message: dict[str, Any], begun: float) -> None:
        key, worker = message["key"], self._workers[name]
        step, seconds, nbytes = self._costs[key]
        worker.free += 1
        worker.held.add(key)
        self.busy[step] += seconds
        self.ends[step] = now
        self.done += 1
        self._start(now, name)
        self._tell(
            now,
            self._scheduler.handle_task_finished,
            key=key,
            worker=name,
            stimulus_id="simulated",
            run_id=message["run_id"],
            metadata={},
            nbytes=nbytes,
            type=b"",
            typename="object",
            thread=0,
            startstops=[{"action": "compute", "start": begun, "stop": now}],
        )
