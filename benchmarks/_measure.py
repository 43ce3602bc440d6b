"""What every benchmark needs: time, peak memory, a table."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["machine", "markdown", "measure"]


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
