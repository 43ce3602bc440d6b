"""What every benchmark needs: time, peak memory, processes, a table."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "Timings",
    "add_ratios_option",
    "in_own_process",
    "interleaved",
    "keep_ratios",
    "machine",
    "markdown",
    "measure",
    "pin",
    "take_turns",
    "versions",
]


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


def pin(threads: int) -> None:
    """Let this process have no more processor cores than threads."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:threads]))


def in_own_process(
    module: str, *what: object, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run ``python -m module --cell ...``, and return the JSON object that is its last line.

    Parameters
    ----------
    module : str
        Name of the module.
    *what : object
        Arguments of ``--cell``.
    environment : mapping of str to str, optional
        Variables that the process has besides those of this one.

    Raises
    ------
    RuntimeError
        If it fails, with the last line of what it says.
    """
    command = [sys.executable, "-m", module, "--cell", *map(str, what)]
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise RuntimeError(said[-1])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def take_turns(
    names: Iterable[str], repeats: int, cell: Callable[[str], dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Call `cell` with each name in turn, `repeats` times, and return what it gave by name."""
    names = list(names)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            found[name].append(cell(name))
            print(f"{name}: {found[name][-1]['seconds']:.2f} s", file=sys.stderr)
    return found


def add_ratios_option(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark be asked for its ratios, which `keep_ratios` writes."""
    parser.add_argument(
        "--ratios", metavar="FILE", help="for how many times as fast as its peers ours is, as JSON"
    )


def keep_ratios(file: str | None, ratios: Mapping[str, float]) -> None:
    """Write how many times as fast as a peer ours is, by what is compared, if there is a file."""
    if file:
        Path(file).write_text(json.dumps(ratios, indent=1))


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


def versions(packages: Iterable[str]) -> str:
    """Return the versions of those packages that are installed."""
    known = []
    for package in dict.fromkeys(packages):
        try:
            known.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(known)


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
