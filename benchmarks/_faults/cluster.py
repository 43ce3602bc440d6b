"""Workers that are killed, paused and slowed during a count, and a scheduler that is killed."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dask
import numpy as np
from distributed import Client

import tensorstate as ts
from benchmarks._faults import jobs
from benchmarks._faults.case import (
    RIGHT,
    TOLD,
    Case,
    Chance,
    LostError,
    WrongError,
)
from tests.clusters import SECONDS, dask_commands, dask_scheduler, dask_worker

__all__ = ["CASES"]

_ROWS, _CHUNK = 20_000, 1000
_LIMIT = 60_000
_DEADLINE = 60


class SlowRows:
    """Rows that take their time to be read, so that there is time for a fault."""

    dtype = np.dtype(np.uint8)

    def __init__(self, rows: Any, seconds: float) -> None:
        self._rows, self._seconds = rows, seconds
        self.shape, self.chunks = rows.shape, (_CHUNK, rows.shape[1])

    def __getitem__(self, rows: slice) -> Any:
        time.sleep(self._seconds)
        return self._rows[rows]


def _rows() -> Any:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (_ROWS, 12), dtype=np.uint8)
    rows[rng.random(_ROWS) < 0.2] = rows[0]
    return rows


class Subject:
    """Rows to be counted, what comes of it, and a cluster of two worker processes.

    No nanny starts workers that die: Dask's gives up where that takes long, for the tries that
    follow too.
    """

    def __init__(self, folder: Path, with_cluster: bool) -> None:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self.states = SlowRows(_rows(), 0.02)
        self.expected = ts.count_states(_rows())
        self._folder = folder
        self._open = ExitStack()
        self._open.enter_context(dask.config.set(_QUICK))
        self._open.enter_context(jobs.small())
        self.workers: list[subprocess.Popen[bytes]] = []
        self.seconds = 0.0
        if with_cluster:
            self._address = self._open.enter_context(dask_scheduler(folder))
            self.client = self._open.enter_context(Client(self._address, timeout=SECONDS))
            self.start_missing()
            self.client.wait_for_workers(2, timeout=SECONDS)
            begin = time.perf_counter()
            ts.count_states(self.states, memory_limit=_LIMIT)
            self.seconds = time.perf_counter() - begin

    def start_missing(self) -> None:
        """Start workers in place of those that have ended, and wait for none."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < 2:
            worker = dask_worker(self._folder, self._address)
            self.workers.append(self._open.enter_context(worker))

    def close(self) -> None:
        """End the cluster."""
        self._open.close()


_QUICK = {
    "distributed.comm.timeouts.connect": "3s",
    "distributed.scheduler.worker-ttl": None,
    "distributed.admin.log-format": "%(message)s",
}


class _Workers:
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.found: Any = None

    def injure(self, subject: Subject, folder: Path, draw: Chance) -> str:
        subject.start_missing()
        subject.client.wait_for_workers(2, timeout=SECONDS)
        number, after = draw.randrange(2), draw.uniform(0, subject.seconds)
        with ThreadPoolExecutor(1) as pool:
            counting = pool.submit(
                ts.count_states, subject.states, memory_limit=_LIMIT, spill=folder / "spill"
            )
            time.sleep(after)
            self._harm(subject.workers[number], draw)
            subject.start_missing()
            self.found = counting.result(_DEADLINE)
        return f"worker {number} {self.kind} after {after:.2f} s"

    def _harm(self, worker: subprocess.Popen[bytes], draw: Chance) -> None:
        if self.kind == "killed":
            worker.kill()
            worker.wait()
            return
        for _ in range(1 if self.kind == "paused" else 20):
            worker.send_signal(signal.SIGSTOP)
            time.sleep(draw.uniform(0.5, 2) if self.kind == "paused" else 0.09)
            worker.send_signal(signal.SIGCONT)
            time.sleep(0.01)

    def check(self, subject: Subject, folder: Path) -> str:
        found, self.found = self.found, None
        if found != subject.expected:
            raise WrongError(f"{found} is counted, and not {subject.expected}")
        del found
        gc.collect()
        left = [*(folder / "spill").iterdir()]
        if left:
            raise LostError(f"{left[0].name} was left")
        return RIGHT


class _Scheduler:
    error: BaseException | None = None
    found: Any = None

    def injure(self, subject: Subject, folder: Path, draw: Chance) -> str:
        self.error = self.found = None
        with dask_commands(folder) as (client, _), ThreadPoolExecutor(1) as pool:
            scheduler = client.run_on_scheduler(os.getpid)
            counting = pool.submit(
                ts.count_states, subject.states, memory_limit=_LIMIT, spill=folder / "spill"
            )
            after = draw.uniform(0, 1)
            time.sleep(after)
            os.kill(scheduler, signal.SIGKILL)
            try:
                self.found = counting.result(_DEADLINE)
            except TimeoutError:
                raise LostError("the count goes on without a scheduler") from None
            except BaseException as error:
                self.error = error
        return f"killed after {after:.2f} s: {type(self.error).__name__}: {self.error}"

    def check(self, subject: Subject, folder: Path) -> str:
        if self.error is not None and not isinstance(self.error, OSError):
            raise LostError(f"the error does not say it: {self.error!r}") from self.error
        if self.error is None and self.found != subject.expected:
            raise WrongError("another histogram came out")
        outcome = RIGHT if self.error is None else TOLD
        self.error = self.found = None
        gc.collect()
        with dask.config.set(scheduler="threads"):
            found = ts.count_states(_rows(), memory_limit=_LIMIT, spill=folder / "spill")
        if found != subject.expected:
            raise WrongError("the next count is another one")
        del found
        gc.collect()
        if [*(folder / "spill").iterdir()]:
            raise LostError("spill files were left")
        return outcome


def _workers(kind: str, tries: int) -> Case:
    case = _Workers(kind)
    what = f"a worker process {kind} during a count with spill files"
    return Case(
        f"worker-{kind}", what, tries, lambda folder: Subject(folder, True), case.injure, case.check
    )


_scheduler = _Scheduler()

CASES = [
    _workers("killed", 50),
    _workers("paused", 20),
    _workers("slowed", 20),
    Case(
        "scheduler-killed",
        "the scheduler process killed during a count",
        20,
        lambda folder: Subject(folder, False),
        _scheduler.injure,
        _scheduler.check,
    ),
]
