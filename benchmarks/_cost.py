"""A model of what a count costs, and the runs on which it is fitted.

The seconds that threads spend in the tasks of a count are taken for a sum: so much for a byte that
is read, for a row, for a distinct state, and so on. Tasks that read rows (map) and tasks that merge
what these found are measured apart. What each costs is fitted by least squares of relative errors,
and is never negative. A count takes the seconds of all its tasks, divided by the number of threads,
and what is outside tasks: a moment for every count, and for states that are loaded at the end.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from dask.callbacks import Callback

from tensorstate.counting.keys import words_per_key

__all__ = ["MAP", "MERGE", "OUTSIDE", "Costs", "Shape", "fit", "measured", "spill_limit"]

MIB = 1 << 20
MAP = ("read_bytes", "rows", "distinct", "spilled_bytes", "map_tasks")
"""What the seconds of tasks that read rows depend on."""

MERGE = ("distinct", "moved_bytes", "opened", "merge_tasks")
"""What the seconds of tasks that merge depend on."""


OUTSIDE = ("runs", "loaded")
"""What the seconds outside tasks depend on."""


class Shape(NamedTuple):
    """A run.

    Attributes
    ----------
    rows, width : int
        How many packed states, and bytes of one.
    distinct : int
        How many distinct ones there may be; 0: all are.
    spills : bool
        Whether the limit is so low that it spills.
    """

    rows: int
    width: int
    distinct: int
    spills: bool

    @property
    def bytes(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.width

    @property
    def row_bytes(self) -> int:
        """What the plan reckons with for a row in memory, and at most in spill files."""
        return 16 * words_per_key(self.width) + 18


class Costs(NamedTuple):
    """Seconds for one of each: of threads in tasks that read rows and that merge, and outside."""

    map: dict[str, float]
    merge: dict[str, float]
    outside: dict[str, float]

    def map_seconds(self, facts: Mapping[str, float]) -> float:
        """Return the thread-seconds of tasks that read rows."""
        return sum(cost * facts[name] for name, cost in self.map.items())

    def merge_seconds(self, facts: Mapping[str, float]) -> float:
        """Return the thread-seconds of tasks that merge."""
        return sum(cost * facts[name] for name, cost in self.merge.items())

    def seconds(self, facts: Mapping[str, float]) -> float:
        """Return how long a count takes with as many threads as the facts say."""
        outside = sum(cost * facts[name] for name, cost in self.outside.items())
        return (self.map_seconds(facts) + self.merge_seconds(facts)) / facts["threads"] + outside


def spill_limit(shape: Shape) -> int:
    """Return a memory limit: one that is too low for all in memory, or one that is not."""
    if shape.spills:
        return 96 * MIB + min(shape.rows * shape.row_bytes // 4, 2048 * MIB)
    return 256 * MIB + 2 * shape.rows * shape.row_bytes


def fit(runs: Sequence[Mapping[str, float]]) -> Costs:
    """Fit the costs to runs, as `measured` gives them.

    Parameters
    ----------
    runs : sequence of dict
        At least one.

    Returns
    -------
    Costs
        None of them negative.

    Examples
    --------
    >>> zeros = dict.fromkeys([*MAP, *MERGE, *OUTSIDE, "merge_seconds", "outside_seconds"], 0)
    >>> runs = [{**zeros, "rows": rows, "map_seconds": 2e-9 * rows} for rows in (1e6, 1e7)]
    >>> costs = fit(runs)
    >>> round(1e9 * costs.map["rows"], 6), costs.map["distinct"], costs.merge["opened"]
    (2.0, 0.0, 0.0)
    """
    return Costs(
        _least_squares(runs, MAP, "map_seconds"),
        _least_squares(runs, MERGE, "merge_seconds"),
        _least_squares(runs, OUTSIDE, "outside_seconds"),
    )


def _least_squares(
    runs: Sequence[Mapping[str, float]], names: Sequence[str], target: str
) -> dict[str, float]:
    from scipy.optimize import nnls

    # Each run weighs the same, whatever its size; and each column has a size of about 1.
    seconds = np.array([run[target] for run in runs])
    weights = 1 / np.maximum(seconds, np.finfo(float).tiny ** 0.5)
    weights[seconds <= 0] = 0
    facts = np.array([[run[name] for name in names] for run in runs], float) * weights[:, None]
    scale = np.maximum(np.abs(facts).max(axis=0), np.finfo(float).tiny)
    found: npt.NDArray[np.float64] = nnls(facts / scale, seconds * weights)[0] / scale
    return dict(zip(names, found.tolist(), strict=True))


def measured(shape: Shape, folder: Path, threads: int) -> dict[str, Any]:
    """Count the rows of ``rows.npy``, and tell what was done and how long it took.

    Parameters
    ----------
    shape : Shape
        What the rows are.
    folder : Path
        Where they are, and where spill files go.
    threads : int
        How many tasks run at once.

    Returns
    -------
    dict
        Of what `MAP`, `MERGE` and `OUTSIDE` name; ``threads``; ``seconds`` on the clock;
        ``map_seconds`` and ``merge_seconds``, thread-seconds of tasks; and ``outside_seconds``,
        what is left when these are shared by the threads.
    """
    from benchmarks._counters import prepare_tensorstate
    from tensorstate.counting import count_states

    states = np.load(folder / "rows.npy", mmap_mode="r").reshape(-1, shape.width)
    prepare_tensorstate(states, threads)
    tasks = _Tasks(folder)
    with tasks, opened_files("block-") as opened:
        begin = time.perf_counter()
        histogram = count_states(states, memory_limit=spill_limit(shape), spill=folder)
        seconds = time.perf_counter() - begin
    in_tasks = sum(tasks.seconds.values()) / threads
    return {
        **shape._asdict(),
        "read_bytes": shape.bytes,
        "distinct": histogram.distinct,
        "spilled_bytes": tasks.spilled,
        "moved_bytes": tasks.spilled,
        "opened": len(opened),
        "map_tasks": tasks.count["map"],
        "merge_tasks": tasks.count["merge"],
        "map_seconds": tasks.seconds["map"],
        "merge_seconds": tasks.seconds["merge"],
        "runs": 1,
        "loaded": 0 if histogram.is_stored or not shape.spills else histogram.distinct,
        "outside_seconds": max(seconds - in_tasks, 0.0),
        "threads": threads,
        "seconds": seconds,
    }


class _Tasks(Callback):  # type: ignore[misc]
    """Times the tasks of a count, and looks how large its spill files are when all are written."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._begun: dict[Any, float] = {}
        self.count = {"map": 0, "merge": 0}
        self.seconds = {"map": 0.0, "merge": 0.0}
        self.spilled = 0

    def _pretask(self, key: Any, graph: Any, state: Any) -> None:
        self._begun[key] = time.perf_counter()
        if _is(key, "written"):
            self.spilled = sum(file.stat().st_size for file in self._folder.glob("*/block-*"))

    def _posttask(self, key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
        step = "map" if _is(key, "count") else "merge"
        self.count[step] += 1
        self.seconds[step] += time.perf_counter() - self._begun.pop(key)


def _is(key: Any, step: str) -> bool:
    return str(key[0] if isinstance(key, tuple) else key).startswith(f"{step}-")


@contextmanager
def opened_files(prefix: str) -> Iterator[list[str]]:
    """Keep the names of all files that are opened for reading meanwhile and begin like this."""
    opened: list[str] = []
    watching = [True]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and watching and isinstance(arguments[0], str):
            name = os.path.basename(arguments[0])
            if name.startswith(prefix) and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
                opened.append(name)

    sys.addaudithook(watch)  # there is no way to take it away again
    try:
        yield opened
    finally:
        watching.clear()
