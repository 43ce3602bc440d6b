"""How far something is that takes a while, told to whoever waits for it."""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from tensorstate.configuration import option
from tensorstate.counting.displays import Display, Figures, Lines, Notebook, Terminal, is_notebook

__all__ = ["Advance", "Work", "show_progress", "telling", "unseen"]

SILENT_SECONDS = 2.0
GAUGE_SECONDS = 2.0

Advance = Callable[[int], None]
"""Called with how much was done since the last call."""


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes
    ----------
    what, unit : str
        What is done, and with what: "counting", "states".
    total : int or None
        How much there is; None if nobody knows.
    spilled : callable, optional
        Returns how many bytes lie in spill files.
    """

    what: str
    unit: str
    total: int | None
    spilled: Callable[[], int] | None = None


@dataclass(frozen=True)
class _Told:
    """What those who call a count say of its progress."""

    subject: str = ""
    progress: bool | None = None


_NOTHING = _Told()
_told: contextvars.ContextVar[_Told] = contextvars.ContextVar("told", default=_NOTHING)


@contextmanager
def telling(subject: str, progress: bool | None = None) -> Iterator[None]:
    """Say of all progress meanwhile what it is about, and whether it is to be shown.

    Parameters
    ----------
    subject : str
        Such as the name of a layer.
    progress : bool, optional
        As for `count_states`; None leaves it to whoever asked for it further out.

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate import count_states
    >>> with telling("conv_1_states", False):
    ...     count_states(np.array([[5], [5], [0]], np.uint8)).distinct
    2
    """
    outer = _told.get()
    token = _told.set(_Told(subject, outer.progress if progress is None else progress))
    try:
        yield
    finally:
        _told.reset(token)


@contextmanager
def show_progress(
    work: Work,
    progress: bool | None = None,
    *,
    done: int = 0,
    memory: Callable[[], int] | None = None,
) -> Iterator[Advance]:
    """Show how far something is, its rate, how long it will take, and what it takes.

    A bar is shown on standard error if that is a terminal, and below the cell in a notebook; a
    line every few seconds on standard error elsewhere.

    Parameters
    ----------
    work : Work
        What is done.
    progress : bool, optional
        Whether to show it. By default what `telling` or else ``tensorstate.progress`` in Dask's
        configuration says, or else it is shown on a terminal and in a notebook after two seconds.
    done : int, default 0
        How much of it was done before, and does not count for the rate.
    memory : callable, optional
        Returns how many bytes of memory it takes; by default, what this process takes.

    Yields
    ------
    callable
        To be called with how much was done since the last call; `unseen` if nothing is shown.
    """
    told = _told.get()
    progress = told.progress if progress is None else progress
    progress = option("progress") if progress is None else progress
    kind = _kind_of_display()
    if progress is False or (progress is None and kind is Lines):
        yield unseen
        return
    subject = f"{work.what} {told.subject}".rstrip()
    figures = Figures(subject, work.unit, work.total, done)

    def measure() -> None:
        figures.memory = (memory or memory_of_this_process)()
        if work.spilled is not None:
            figures.spilled = max(work.spilled(), figures.spilled or 0)

    def advance(more: int) -> None:
        figures.done += more

    with _shown(kind(figures), measure, SILENT_SECONDS if progress is None else 0.0):
        yield advance


def unseen(more: int) -> None:
    """Tell nobody how much was done."""


def memory_of_this_process() -> int:
    """Return how many bytes this process takes, without what belongs to files."""
    memory = psutil.Process().memory_info()
    # All of a file that is mapped, and read once, would be in it.
    return int(memory.rss - getattr(memory, "shared", 0))


def _kind_of_display() -> type[Lines | Notebook | Terminal]:
    if is_notebook():
        return Notebook
    return Terminal if sys.stderr.isatty() else Lines


@contextmanager
def _shown(display: Display, measure: Callable[[], None], silent: float) -> Iterator[None]:
    """Show something until the block ends, if it takes more than so many silent seconds."""
    ended = threading.Event()
    opened = threading.Event()

    def show() -> None:
        if ended.wait(silent):
            return
        measure_at = time.monotonic()
        # Whoever closes the other end of a pipe wants no more of it.
        with suppress(OSError):
            while True:
                if time.monotonic() >= measure_at:
                    _try(measure)
                    measure_at = time.monotonic() + GAUGE_SECONDS
                if opened.is_set():
                    display.refresh()
                else:
                    display.open()
                    opened.set()
                if ended.wait(display.interval):
                    return

    # A notebook tells by the context below which cell something belongs.
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(show,), name="progress", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if opened.is_set() or not silent:
            _try(measure)
            with suppress(OSError):
                if not opened.is_set():
                    display.open()
                display.close()


def _try(measure: Callable[[], None]) -> None:
    """Measure, if that can be done: what cannot be shown is no reason to stop what is done."""
    with suppress(Exception):
        measure()
