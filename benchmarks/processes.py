"""What several processes do together: capturing one run, and counting on a cluster of one machine.

    python -m benchmarks.processes [--capturing 1 2 4] [--counting 1 2] [--repeats 3]

Capturing: each of the processes is a shard that records the same batches of activations, as the
first layer of LeNet-5 gives them, into a part of its own of one run; all of them together record
as much as one alone. The time is from when all are ready to the commit of the last. What the run
holds then is counted and compared with what was recorded.

Counting: a stored run, on a Dask cluster of worker processes with one thread each that have counted
before, against one process without a cluster.

More processes than the machine has cores tell what is lost, and not what is won. Figures are
medians; the ways take turns.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt

import tensorstate as ts
from benchmarks._measure import machine, markdown, versions
from benchmarks.counting import make_rows
from benchmarks.stored import raw_states, write_run

NEURONS, POSITIONS, BATCH = 20, 576, 200
SECONDS = 600
"""How long one way may take before it is given up."""

_SPAWN = multiprocessing.get_context("spawn")


def activations() -> npt.NDArray[np.float32]:
    """Return a batch: (instances, positions, neurons)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(BATCH, POSITIONS, NEURONS)).astype(np.float32)


def record_shard(path: str, shard: int, batches: int, ready: Barrier, done: Barrier) -> None:
    """Record a shard of a run in this process, beginning when all others are ready."""
    batch = activations()
    with ts.StateRecorder("warm-up") as other:
        other.record(batch)
    first = shard * batches * BATCH
    recorder = ts.StateRecorder(
        "conv_1", path, mode="resume", part=shard, first_instance=first, codec="lz4"
    )
    ready.wait(SECONDS)
    for _ in range(batches):
        recorder.record(batch)
    recorder.close()
    done.wait(SECONDS)


def capture(processes: int, batches: int) -> float:
    """Return the seconds that so many processes take together for so many batches in all."""
    shares = [batches // processes] * processes
    with tempfile.TemporaryDirectory(prefix="processes-") as folder:
        path = os.path.join(folder, "run.zarr")
        ready, done = (_SPAWN.Barrier(processes + 1) for _ in range(2))
        running = [
            _SPAWN.Process(target=record_shard, args=(path, shard, share, ready, done), daemon=True)
            for shard, share in enumerate(shares)
        ]
        for process in running:
            process.start()
        ready.wait(SECONDS)
        begin = time.perf_counter()
        done.wait(SECONDS)
        seconds = time.perf_counter() - begin
        for process in running:
            process.join(SECONDS)
        _check(path, sum(shares))
    return seconds


def _check(path: str, batches: int) -> None:
    """Raise SystemExit unless a run holds so many batches, and nothing else."""
    run = ts.open_run(path)
    packed = ts.compress_states(activations()).reshape(-1, -(-NEURONS // 8))
    once, found = ts.count_states(packed), run["conv_1"].histogram()
    whole = run.instances == batches * BATCH and found.total == batches * len(packed)
    if not (whole and np.array_equal(np.sort(found.counts), np.sort(once.counts) * batches)):
        raise SystemExit(f"the run {path} does not hold what was recorded")


def counting_seconds(folder: Path) -> float:
    """Return the seconds to count the run in a folder."""
    begin = time.perf_counter()
    ts.count_states(raw_states(folder))
    return time.perf_counter() - begin


def count(folder: Path, workers: int) -> list[float]:
    """Return the seconds of three counts on a cluster of so many processes; without one for 0."""
    if not workers:
        with dask.config.set(scheduler="threads", num_workers=1):
            counting_seconds(folder)
            return [counting_seconds(folder) for _ in range(3)]
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": None,
    }
    with LocalCluster(**options) as cluster, Client(cluster):
        counting_seconds(folder)
        return [counting_seconds(folder) for _ in range(3)]


def in_turns(
    ways: Sequence[int], repeats: int, measured: Callable[[int], list[float]]
) -> dict[int, float]:
    """Return the median seconds of each way."""
    found: dict[int, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            found[way] += measured(way)
    return {way: statistics.median(seconds) for way, seconds in found.items()}


def captured_table(found: dict[int, float], batches: int) -> str:
    """Return the times of capturing as Markdown."""
    size = batches * BATCH * POSITIONS * NEURONS * 4
    lines = [
        [
            processes,
            f"{seconds:.2f}",
            f"{batches * BATCH / seconds:,.0f}",
            f"{size / seconds / 1e9:.1f}",
            f"{found[min(found)] / seconds:.2f}x",
        ]
        for processes, seconds in found.items()
    ]
    return markdown(["processes", "s", "instances/s", "GB/s of activations", "of the first"], lines)


def counted_table(found: dict[str, dict[int, float]], rows: int) -> str:
    """Return the times of counting as Markdown."""
    lines = [
        [
            kind,
            f"{workers} worker processes" if workers else "one process, no cluster",
            f"{seconds:.2f}",
            f"{seconds / rows * 1e9:.1f}",
            f"{of_kind[0] / seconds:.2f}x",
        ]
        for kind, of_kind in found.items()
        for workers, seconds in of_kind.items()
    ]
    return markdown(["states", "where", "s", "ns a row", "of no cluster"], lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--capturing", type=int, nargs="+", default=[1, 2, 4], metavar="PROCESSES")
    parser.add_argument("--batches", type=int, default=120, help="of 200 instances, in all")
    parser.add_argument("--counting", type=int, nargs="+", default=[1, 2], metavar="WORKERS")
    parser.add_argument("--rows", type=float, default=20e6, help="of 16 bytes, to be counted")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    for processes in options.capturing:
        if options.batches % processes:
            parser.error(f"{options.batches} batches cannot be shared by {processes} processes")
    captured = in_turns(
        options.capturing, options.repeats, lambda ways: [capture(ways, options.batches)]
    )
    print(f"Capturing {options.batches * BATCH:,} instances of one layer into one run:\n")
    print(captured_table(captured, options.batches))

    counted = {}
    for kind in ("low", "high"):
        with tempfile.TemporaryDirectory(prefix="processes-") as name:
            folder = Path(name)
            write_run(folder, make_rows(kind, 16, int(options.rows)))
            counted[kind] = in_turns(
                [0, *options.counting], options.repeats, partial(count, folder)
            )
    print(f"\nCounting {options.rows:,.0f} stored states of 16 bytes, one thread a process:\n")
    print(counted_table(counted, int(options.rows)))
    known = versions(["numpy", "numba", "dask", "distributed", "zarr"])
    print(f"\nMedians, {options.repeats} repeats; {machine()}; {known}.")


if __name__ == "__main__":
    main()
