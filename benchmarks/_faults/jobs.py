"""What the processes do that are killed, or meet a fault on their way: each a job, in a fork."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

import tensorstate as ts
from benchmarks.kills import NEURONS, SEQUENCES, activations, capture, expected, lengths
from tensorstate.counting import pieces, plan
from tensorstate.storage import live, writer

__all__ = [
    *("INSTANCES", "JOBS", "LIMIT", "LIVE", "QUEUE_BYTES", "Job"),
    *("at_event", "do", "pipe", "rows", "run", "small", "start", "told_by"),
]

INSTANCES = 240
QUEUE_BYTES = 20_000
LIMIT = 120_000  # bytes, of a count that spills
LIVE = ("conv_1", SEQUENCES)

Job = Callable[[Path], object]

_EVENTS = {
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"),
    *("os.listdir", "os.scandir"),
}
_SECONDS = 120

_processes = multiprocessing.get_context("forkserver")
# What is imported once is there in each of them at once.
_processes.set_forkserver_preload(["benchmarks._faults.jobs"])


def small() -> ExitStack:
    """Let a few rows be many until the stack is closed: small chunks, soon counted, low limits."""
    values: list[tuple[Any, dict[str, Any]]] = [
        (writer, {"_SMALLEST_CHUNK_BYTES": 4096}),
        (live, {"WAITING_CHUNKS": 1}),
        (plan, {"PROCESS_BYTES": 0, "TASK_BYTES": 0, "READ_COPIES": 0}),
        (plan, {"LEAST_READ": 1, "LEAST_ROWS": 1}),
        (pieces, {"ROWS_PER_PARTITION": 40}),
    ]
    stack = ExitStack()
    for module, attributes in values:
        stack.enter_context(mock.patch.multiple(module, **attributes))
    return stack


def captured(path: Path) -> None:
    """Capture from wherever the run stands; chunks are committed as they are filled."""
    capture(path / "run", instances=INSTANCES, flush_every=10 * INSTANCES, queue_bytes=QUEUE_BYTES)


def flushed(path: Path) -> None:
    """Capture from wherever the run stands, and commit after each batch."""
    capture(path / "run", instances=INSTANCES, flush_every=1, queue_bytes=QUEUE_BYTES)


def captured_live(path: Path) -> None:
    """Capture from wherever the run stands, and count the states while they come."""
    try:
        done = ts.open_run(path / "run").instances
    except (FileNotFoundError, ValueError):
        done = 0
    options: dict[str, Any] = {"mode": "resume", "queue_bytes": QUEUE_BYTES, "histogram": "live"}
    equal = ts.StateRecorder(LIVE[0], path / "run", **options)
    varying = ts.StateRecorder(LIVE[1], path / "run", variable_positions=True, **options)
    for begin in range(done, INSTANCES, 20):
        stop = min(begin + 20, INSTANCES)
        equal.record(activations(LIVE[0], begin, stop))
        varying.record(activations(LIVE[1], begin, stop), lengths(begin, stop))
    equal.close()


def overwritten(path: Path) -> None:
    """Write a run anew, in place of the one that is there."""
    new = ts.StateRecorder("conv_1", path / "run", mode="w", queue_bytes=QUEUE_BYTES)
    with closing(new) as recorder:
        for begin in range(0, INSTANCES, 20):
            recorder.record(activations("conv_1", begin, begin + 20))


def counted(path: Path) -> None:
    """Count all layers in memory, and cache what comes of it."""
    for layer in ts.open_run(path / "run").values():
        layer.histogram(spill=path / "spill")


def spilled(path: Path) -> None:
    """Count all layers with files, and cache what comes of it."""
    for layer in ts.open_run(path / "run").values():
        layer.histogram(memory_limit=LIMIT, spill=path / "spill")


def saved(path: Path) -> None:
    """Save a histogram."""
    rng = np.random.default_rng(0)
    ts.count_states(rng.integers(0, 256, (50_000, 3), dtype=np.uint8)).save(path / "histogram")


JOBS: dict[str, Job] = {
    job.__name__: job
    for job in (captured, flushed, captured_live, overwritten, counted, spilled, saved)
}
ALL_LAYERS = [*NEURONS, SEQUENCES]


@functools.cache
def rows(name: str) -> npt.NDArray[np.uint8]:
    """Return all rows of a layer."""
    return expected(name, INSTANCES)


def at_event(number: int, below: str, happen: Callable[[str, tuple[Any, ...]], None]) -> list[int]:
    """Let something happen when this process does its n-th operation with files.

    Parameters
    ----------
    number : int
        Which of them, from 1 on; 0 for none.
    below : str
        Only files count whose path contains that.
    happen : callable
        Called once, in the thread that is about to do it, with what Python calls this event and
        its arguments.

    Returns
    -------
    list of int
        How many there were so far; it goes on.
    """
    seen = [0]
    busy = threading.local()

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or getattr(busy, "now", False):
            return
        if not any(below in os.fsdecode(path) for path in arguments if _is_path(path)):
            return
        busy.now = True
        try:
            seen[0] += 1
            if seen[0] == number:
                happen(event, arguments)
        finally:
            busy.now = False

    sys.addaudithook(hear)
    return seen


def _is_path(value: object) -> bool:
    return isinstance(value, (str, bytes, os.PathLike))


def run(
    name: str, path: Path, below: str, number: int, share: float, delay: float, told: Any
) -> None:
    """Do a job; at its n-th operation with files, this process is killed.

    Parameters
    ----------
    name : str
        Of the job.
    path : Path
        Where it works.
    below, number
        As for `at_event`.
    share : float
        How much of a file is written, if it is just to be renamed: the kill came in the middle.
    delay : float
        Seconds until the kill.
    told : connection
        Gets the number of operations at the end.
    """
    small()

    def kill(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and share < 1 and os.path.isfile(arguments[0]):
            os.truncate(arguments[0], int(share * os.path.getsize(arguments[0])))
            _die()
        if delay:
            threading.Timer(delay, _die).start()
        else:
            _die()

    seen = at_event(number, below, kill)
    JOBS[name](path)
    told.send(seen[0])


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(_SECONDS)


def pipe() -> tuple[Any, Any]:
    """Return the end that receives and the one that sends of what connects to a process."""
    return _processes.Pipe(duplex=False)


def start(target: Callable[..., object], *arguments: object) -> Any:
    """Start a process."""
    process = _processes.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def do(
    name: str, path: Path, below: str, number: int = 0, share: float = 1, delay: float = 0
) -> int | None:
    """Do a job in a process of its own; return how many operations there were, None if killed."""
    receiver, sender = pipe()
    process = start(run, name, path, below, number, share, delay, sender)
    sender.close()
    process.join(_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{name} took more than {_SECONDS} s")
    if process.exitcode == -signal.SIGKILL:
        return None
    if process.exitcode:
        raise RuntimeError(f"{name} ended with {process.exitcode}")
    return int(receiver.recv())


def told_by(target: Any, *arguments: Any) -> tuple[str, str]:
    """Return what a process sends that is started with a function."""
    receiver, sender = pipe()
    process = start(target, *arguments, sender)
    sender.close()
    try:
        found: tuple[str, str] = (
            receiver.recv() if receiver.poll(_SECONDS) else ("lost", "no answer")
        )
    except EOFError:
        found = ("lost", "the process died")
    process.join(10)
    if process.exitcode is None:
        process.kill()
    return found
