"""How far a command is: a bar on a terminal, else a line every few seconds; on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

import dask
import psutil
from dask.callbacks import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tensorstate.counting.memory import as_text
from tensorstate.counting.schedulers import find_scheduler

__all__ = ["Advance", "Lines", "show_counting", "show_progress"]

LINE_SECONDS = 5.0

Advance = Callable[[int], None]
"""Called with how much was done since the last call."""


@contextmanager
def show_progress(
    what: str, unit: str, total: int | None, *, done: int = 0, quiet: bool = False
) -> Iterator[Advance]:
    """Show how far something is, its rate, how long it will take, and the memory of this process.

    Parameters
    ----------
    what, unit : str
        What is done, and with what: "capturing", "instances".
    total : int or None
        How much there is; None if nobody knows.
    done : int, default 0
        How much of it was done before, and does not count for the rate.
    quiet : bool, default False
        Whether to show nothing.

    Yields
    ------
    callable
        To be called with how much was done since the last call.
    """
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        bar = _bar(what, unit)
        task = bar.add_task(what, total=total, completed=done, done_before=done)
        with bar:
            yield lambda more: bar.advance(task, more)
    else:
        with Lines(what, unit, total, done=done, out=sys.stderr) as lines:
            yield lines.advance


class Lines:
    """Progress for a log: a line every few seconds, and one at the end.

    Parameters
    ----------
    what, unit, total, done
        As for `show_progress`.
    out : file
        Where lines are written.
    clock : callable, optional
        Returns seconds.

    Examples
    --------
    >>> seconds = iter([0.0, 2.0, 6.0, 8.0])
    >>> with Lines(
    ...     "capturing", "instances", 1000, out=sys.stdout, clock=lambda: next(seconds)
    ... ) as lines:  # doctest: +ELLIPSIS
    ...     lines.advance(200)
    ...     lines.advance(400)
    capturing: 600 of 1,000 instances, 100/s, 4 s left, ... memory
    capturing: 600 of 1,000 instances in 8.0 s, 75/s, ... memory
    """

    def __init__(
        self,
        what: str,
        unit: str,
        total: int | None,
        *,
        done: int = 0,
        out: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._unit, self._total = what, unit, total
        self._before = self._done = done
        self._out, self._clock = out, clock
        self._begin = self._last = clock()

    def advance(self, more: int) -> None:
        """Note that more is done; write a line if the last one is some seconds old."""
        self._done += more
        now = self._clock()
        if now - self._last < LINE_SECONDS:
            return
        self._last = now
        rate = self._rate(now)
        left = ""
        if self._total is not None and rate:
            left = f", {(self._total - self._done) / rate:,.0f} s left"
        self._write(f"{self._amount()}, {rate:,.0f}/s{left}")

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        now = self._clock()
        self._write(f"{self._amount()} in {now - self._begin:.1f} s, {self._rate(now):,.0f}/s")

    def _amount(self) -> str:
        of = "" if self._total is None else f" of {self._total:,}"
        return f"{self._done:,}{of} {self._unit}"

    def _rate(self, now: float) -> float:
        return (self._done - self._before) / max(now - self._begin, 1e-9)

    def _write(self, text: str) -> None:
        self._out.write(f"{self._what}: {text}, {_memory()} memory\n")
        self._out.flush()


@contextmanager
def show_counting(layer: str, states: int, *, quiet: bool = False) -> Iterator[None]:
    """Show how far a count is that happens meanwhile, in states.

    On a cluster, the bar is that of ``distributed``.

    Parameters
    ----------
    layer : str
        What is counted.
    states : int
        How many states it has.
    quiet : bool, default False
        Whether to show nothing.
    """
    on_cluster = find_scheduler().client is not None
    if quiet or on_cluster:
        with dask.config.set({"tensorstate.progress": False if quiet else None}):
            yield
        return
    with (
        show_progress(f"counting {layer}", "states", states) as advance,
        dask.config.set({"tensorstate.progress": False}),
    ):
        tasks = _Tasks(states, advance)
        with tasks:
            yield
        tasks.finish()


class _Tasks(Callback):  # type: ignore[misc]
    """Tells, in states, how many of the tasks of a count are done.

    What a count goes on from, and what other counts it needs, show when they begin; so that
    progress never goes back, the states that are left are shared by the tasks that are left.
    """

    def __init__(self, states: int, advance: Advance) -> None:
        super().__init__()
        self._left = states
        self._advance = advance
        self._tasks = 0

    def _start_state(self, graph: Mapping[Any, Any], state: Mapping[str, Any]) -> None:
        self._tasks += len(state["waiting"]) + len(state["ready"])

    def _posttask(self, key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
        self._done(self._left // max(self._tasks, 1))
        self._tasks -= 1

    def finish(self) -> None:
        """Note that all is done, also what needed no task."""
        self._done(self._left)

    def _done(self, states: int) -> None:
        self._left -= states
        self._advance(states)


class _Rate(ProgressColumn):
    """How much is done in a second, without what was done before."""

    def render(self, task: Task) -> Text:
        done = task.completed - task.fields["done_before"]
        return Text(f"{done / max(task.elapsed or 0.0, 1e-9):,.0f}/s")


class _Memory(ProgressColumn):
    """What this process takes."""

    def render(self, task: Task) -> Text:
        return Text(_memory())


def _bar(what: str, unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        _Memory(),
        console=Console(stderr=True),
    )


def _memory() -> str:
    memory = psutil.Process().memory_info()
    # Without what belongs to files: all of a file that is mapped, and read once, would be in it.
    return as_text(memory.rss - getattr(memory, "shared", 0))
