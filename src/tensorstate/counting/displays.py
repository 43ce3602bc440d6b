"""How progress looks: a bar on a terminal, the same in a notebook, else a line now and then."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, TextIO

from tensorstate.counting.memory import as_text

__all__ = ["Display", "Figures", "Lines", "Notebook", "Terminal", "as_duration", "is_notebook"]

LINE_SECONDS = 5.0
LONG_SECONDS = 100.0


@dataclass
class Figures:
    """How far something is, its rate, how long it will take, and what it takes.

    Attributes
    ----------
    what, unit : str
        What is done, and with what: "capturing", "instances".
    total : int or None
        How much there is; None if nobody knows.
    before : int
        How much of it was done before, and does not count for the rate.
    memory : int
        Bytes of memory that are taken.
    spilled : int or None
        Bytes in spill files; None where nothing is spilled.
    clock : callable
        Returns seconds.
    done : int
        How much is done, what was done before included.
    """

    what: str
    unit: str
    total: int | None
    before: int = 0
    memory: int = 0
    spilled: int | None = None
    clock: Callable[[], float] = time.monotonic
    done: int = field(init=False)

    def __post_init__(self) -> None:
        self.done = self.before
        self._begin = self.clock()

    @property
    def seconds(self) -> float:
        """How long it takes by now."""
        return self.clock() - self._begin

    def amount(self) -> str:
        """Return how much of how much is done: "600 of 1,000 instances"."""
        of = "" if self.total is None else f" of {self.total:,}"
        return f"{self.done:,}{of} {self.unit}"

    def rate(self, seconds: float) -> float:
        """Return how much was done in one of these seconds."""
        return (self.done - self.before) / max(seconds, 1e-9)

    def pace(self) -> str:
        """Return the rate and how long it will take: "100/s, 4 s left"."""
        rate = self.rate(self.seconds)
        if self.total is None or not rate:
            return f"{rate:,.0f}/s"
        left = max(self.total - self.done, 0) / rate
        return f"{rate:,.0f}/s, {as_duration(left)} left"

    def taken(self) -> str:
        """Return what it takes: "1.00 GiB memory, 2.00 GiB spilled"."""
        memory = f"{as_text(self.memory)} memory"
        return memory if self.spilled is None else f"{memory}, {as_text(self.spilled)} spilled"


def as_duration(seconds: float) -> str:
    """Return a time for people.

    Examples
    --------
    >>> as_duration(4.2), as_duration(3725)
    ('4 s', '1:02:05')
    """
    return f"{seconds:.0f} s" if seconds < LONG_SECONDS else str(timedelta(seconds=round(seconds)))


class Display(Protocol):
    """Shows figures; refreshed now and then by one thread at a time.

    Attributes
    ----------
    interval : float
        Seconds between two refreshes.
    """

    interval: float

    def open(self) -> None:
        """Begin to show something."""

    def refresh(self) -> None:
        """Show how far it is now."""

    def close(self) -> None:
        """Show how far it was in the end."""


class Lines:
    """Progress for a log: a line every few seconds, and one at the end.

    Parameters
    ----------
    figures : Figures
        What is shown.
    out : file, optional
        Where lines are written; by default standard error.

    Examples
    --------
    >>> seconds = iter([0.0, 6.0, 6.0, 8.0, 9.0])
    >>> figures = Figures("capturing", "instances", 1000, clock=lambda: next(seconds))
    >>> figures.memory = 3 << 20
    >>> lines = Lines(figures, sys.stdout)
    >>> figures.done = 600
    >>> lines.refresh()
    capturing: 600 of 1,000 instances, 100/s, 4 s left, 3.00 MiB memory
    >>> lines.refresh()  # two seconds later
    >>> lines.close()
    capturing: 600 of 1,000 instances in 9.0 s, 67/s, 3.00 MiB memory
    """

    interval = 0.5

    def __init__(self, figures: Figures, out: TextIO | None = None) -> None:
        self._figures = figures
        self._out = out or sys.stderr
        self._last = 0.0

    def open(self) -> None:
        """Write nothing yet."""

    def refresh(self) -> None:
        """Write a line, if the last one is some seconds old."""
        seconds = self._figures.seconds
        if seconds - self._last >= LINE_SECONDS:
            self._last = seconds
            self._write(f"{self._figures.amount()}, {self._figures.pace()}")

    def close(self) -> None:
        """Write the last line."""
        seconds = self._figures.seconds
        rate = self._figures.rate(seconds)
        self._write(f"{self._figures.amount()} in {seconds:.1f} s, {rate:,.0f}/s")

    def _write(self, text: str) -> None:
        self._out.write(f"{self._figures.what}: {text}, {self._figures.taken()}\n")
        self._out.flush()


class Terminal:
    """A bar on standard error, which is a terminal.

    Parameters
    ----------
    figures : Figures
        What is shown.
    """

    interval = 0.1

    def __init__(self, figures: Figures) -> None:
        from rich.console import Console
        from rich.live import Live

        self._figures = figures
        self._live = Live(console=Console(stderr=True), auto_refresh=False)

    def open(self) -> None:
        """Draw the bar."""
        self._live.start()
        self.refresh()

    def refresh(self) -> None:
        """Draw it anew."""
        self._live.update(self._drawn(), refresh=True)

    def close(self) -> None:
        """Leave it as it is in the end."""
        self.refresh()
        self._live.stop()

    def _drawn(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        figures = self._figures
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(figures.total, figures.done, width=30, pulse=figures.total is None)
        line.add_row(Text(figures.what), bar, Text(figures.amount()))
        taken = f"  {figures.pace()}, {as_duration(figures.seconds)} so far, {figures.taken()}"
        return Group(line, Text(taken))


class Notebook:
    """A bar below the cell of a notebook that runs; needs no widgets.

    Parameters
    ----------
    figures : Figures
        What is shown.
    """

    interval = 0.5

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._handle: Any = None

    def open(self) -> None:
        """Show the bar."""
        from IPython.display import display

        self._handle = display(self._bundle(), raw=True, display_id=True)

    def refresh(self) -> None:
        """Show it anew, in its own place."""
        self._handle.update(self._bundle(), raw=True)

    def close(self) -> None:
        """Leave it as it is in the end."""
        self.refresh()

    def _bundle(self) -> dict[str, str]:
        figures = self._figures
        text = (
            f"{figures.what}: {figures.amount()}, {figures.pace()}, "
            f"{as_duration(figures.seconds)} so far, {figures.taken()}"
        )
        value = "" if figures.total is None else f' max="{figures.total}" value="{figures.done}"'
        bar = f"<progress{value}></progress> <code>{html.escape(text)}</code>"
        return {"text/plain": text, "text/html": bar}


def is_notebook() -> bool:
    """Whether this runs in a kernel that shows what is displayed, as that of a notebook does."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
