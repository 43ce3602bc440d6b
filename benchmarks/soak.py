"""Whether memory, file descriptors, threads and disk stay flat: one round of work after the other.

    python -m benchmarks.soak [--minutes 60]

A round captures a run, counts it in memory and with spill files, resumes it, counts it again, looks
for damage, saves and loads the histogram, and deletes everything. What the process has is measured
after each; the first fifth of the rounds is warm-up. A line is fitted to what follows: the exit
code is 1 if it rises, from its beginning to its end, by more than 5 % of the memory, or one file
descriptor, thread or file, and by more than twice what the values scatter about it.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tensorstate as ts
from benchmarks._faults.jobs import small
from benchmarks._measure import machine, markdown

__all__ = ["MEASURES", "one_round", "rises", "soak"]

MEASURES = {"memory, MiB": 0.05, "file descriptors": 1, "threads": 1, "files on disk": 1}
"""What is measured, and by how much it may rise: of the memory, by this share."""

_INSTANCES, _POSITIONS = 200, 16
_LIMIT = 150_000


def one_round(folder: Path, seed: int) -> None:
    """Capture, count, resume, verify and delete; raise AssertionError if a number is wrong."""
    x = np.random.default_rng(seed).normal(size=(2 * _INSTANCES, _POSITIONS, 40))
    lengths = np.arange(2 * _INSTANCES) % (_POSITIONS + 1)
    path = folder / "run"
    for half in range(2):
        chosen = slice(half * _INSTANCES, (half + 1) * _INSTANCES)
        recorders = [
            ts.StateRecorder("equal", path, mode="resume", queue_bytes=30_000),
            ts.StateRecorder("live", path, mode="resume", queue_bytes=30_000, histogram="live"),
            ts.StateRecorder(
                "varies", path, mode="resume", queue_bytes=30_000, variable_positions=True
            ),
        ]
        recorders[0].record(x[chosen])
        recorders[1].record(x[chosen])
        recorders[2].record(x[chosen], lengths[chosen])
        recorders[0].close()
        run = ts.open_run(path)
        whole = run["equal"].histogram(memory_limit=_LIMIT, spill=folder / "spill")
        assert whole == ts.count_states(run["equal"].raw_states[:])
        assert whole == run["live"].histogram()
        assert run["varies"].counts().sum() == lengths[: chosen.stop].sum()
        assert len(run.verify()) == 0
        run.summary()
    whole.save(folder / "histogram")
    assert ts.StateHistogram.load(folder / "histogram", memory_limit=_LIMIT) == whole
    del whole, run, recorders
    shutil.rmtree(path)
    shutil.rmtree(folder / "histogram")


def _measure(folder: Path) -> list[float]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return [
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        sum(path.is_file() for path in folder.rglob("*")),
    ]


def soak(folder: Path, seconds: float) -> list[list[float]]:
    """Do rounds for some time; return what the process had after each, in the order of `MEASURES`.

    Parameters
    ----------
    folder : Path
        Where the rounds work.
    seconds : float
        For how long.
    """
    end = time.perf_counter() + seconds
    found: list[list[float]] = []
    with small():
        while time.perf_counter() < end or len(found) < 10:
            one_round(folder, len(found))
            found.append(_measure(folder))
    return found


def rises(name: str, values: Sequence[float]) -> tuple[float, bool]:
    """Return by how much a measure rises in a round, after the warm-up, and whether it grows.

    Examples
    --------
    >>> rises("threads", [1, 2, 3, 3, 3, 3, 3, 3, 3, 3])
    (0.0, False)
    >>> rises("threads", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])[1]
    True
    """
    y = np.asarray(values[len(values) // 5 :], float)
    rounds = np.arange(len(y)) - (len(y) - 1) / 2
    slope = float((rounds * y).sum() / (rounds**2).sum())
    scatter = float(np.std(y - y.mean() - slope * rounds))
    most = MEASURES[name] * (float(y.mean()) if MEASURES[name] < 1 else 1)
    rise = slope * len(y)
    return round(slope, 6) + 0.0, rise > max(most, 2 * scatter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), 60 * options.minutes)
    rows, grows = [], False
    for name, values in zip(MEASURES, zip(*found, strict=True), strict=True):
        slope, does = rises(name, values)
        grows = grows or does
        warm = values[len(values) // 5]
        cells = [f"{value:.1f}" for value in (values[0], warm, max(values), values[-1])]
        rows.append([name, *cells, f"{slope:.4f}", "yes" if does else "no"])
    header = ["", "first round", "after warm-up", "highest", "last", "rise in a round", "grows"]
    print(markdown(header, rows))
    print(
        f"\n{len(found)} rounds in {options.minutes:g} minutes; {machine()}, "
        f"tensorstate {ts.__version__}"
    )
    sys.exit(1 if grows else 0)


if __name__ == "__main__":
    main()
