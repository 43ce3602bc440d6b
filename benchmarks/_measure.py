"""What every benchmark needs: time, peak memory, a table."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Timings", "interleaved", "machine", "markdown", "measure"]


def measure(run: Callable[[], Any], repeats: int) -> tuple[list[float], float, Any]:
    """Run something several times.

    Returns
    -------
    seconds : list of float
        Wall time of each run.
    peak : float
        Bytes of resident memory at the highest, above what was resident before.
    result
        Of the last run.
    """
    seconds = []
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
    for _ in range(repeats):
        result = None
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
    return seconds, max(_resident("VmHWM") - before, 0), result


def interleaved(
    ways: Mapping[str, Callable[[], Any]],
    repeats: int,
    prepare: Callable[[str], Any] = lambda way: None,
) -> dict[str, Timings]:
    """Time several ways in turn, so that whatever else the machine does falls on all of them.

    Parameters
    ----------
    ways : mapping of str to callable
        What to time. Each is run once before, unmeasured.
    repeats : int
        How often each is timed.
    prepare : callable, optional
        Called with the name of a way before each run of it, and not timed.

    Returns
    -------
    dict of str to Timings
        Seconds of each run of each way.
    """
    timings = {way: Timings([], []) for way in ways}
    for repeat in range(-1, repeats):
        for way, run in ways.items():
            prepare(way)
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            if repeat >= 0:
                timings[way].cpu.append(time.process_time() - cpu)
                timings[way].wall.append(time.perf_counter() - wall)
    return timings


class Timings(NamedTuple):
    """Seconds of each run: of the processor, all threads together, and of the clock."""

    cpu: list[float]
    wall: list[float]


def _resident(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return float(line.split()[1]) * 1024
    return 0.0


def machine() -> str:
    """Return a line about this machine."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
