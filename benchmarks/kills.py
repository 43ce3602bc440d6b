"""What is left of a capture that is killed, again and again, at random moments.

    python -m benchmarks.kills [--kills 100] [--seed 0]

A process captures four layers into a run, as a batch job would: from wherever the run stands.
It gets SIGKILL at a random moment; then the store is opened, every committed row is compared with
what it must be, and the next process goes on. After five kills a run is let come to its end, and is
compared with one that was never killed, chunk by chunk and byte by byte. The exit code is 1 if
anything was wrong.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import tensorstate as ts
from benchmarks._measure import machine, markdown

INSTANCES, BATCH = 4000, 20
POSITIONS = {"conv_1": 64, "conv_2": 16, "conv_3": 16}
NEURONS = {"conv_1": 20, "conv_2": 50, "conv_3": 100}
SEQUENCES, MOST_POSITIONS = "lstm", 30  # a layer whose instances differ in length
SHAPES = {name: (POSITIONS[name], NEURONS[name]) for name in NEURONS}
SHAPES[SEQUENCES] = (MOST_POSITIONS, 24)
FLUSH_EVERY = 500  # instances; in between, what is committed are the chunks that are full
QUEUE_BYTES = 400_000
KILLS_A_RUN = 5


class Survival(NamedTuple):
    """What was found of runs that were killed.

    Attributes
    ----------
    runs, kills : int
        How many runs there were, and how often their processes were killed while they captured.
    opened : int
        How many stores could be opened after a kill.
    rows, wrong : int
        How many committed rows were compared after kills, and how many were not what they must be.
    lost : int
        Instances that were committed before a kill, or in another layer, and were not there.
    equal : int
        Runs that ended byte-equal to one that was never killed.
    """

    runs: int = 0
    kills: int = 0
    opened: int = 0
    rows: int = 0
    wrong: int = 0
    lost: int = 0
    equal: int = 0

    def __add__(self, other: tuple[int, ...]) -> Survival:  # type: ignore[override]
        return Survival(*map(sum, zip(self, other, strict=True)))

    @property
    def is_whole(self) -> bool:
        """Whether nothing was wrong."""
        return (
            self.opened == self.kills
            and self.equal == self.runs
            and not self.wrong
            and not self.lost
        )


def activations(name: str, start: int, stop: int) -> npt.NDArray[np.float64]:
    """Return the activations of instances start to stop, the same in every process."""
    batch = np.empty((stop - start, *SHAPES[name]))
    for number in range(start, stop):
        batch[number - start] = np.random.default_rng(number).normal(size=SHAPES[name])
    return batch


def lengths(start: int, stop: int) -> npt.NDArray[np.int64]:
    """Return how many positions the instances start to stop have, where they differ in that."""
    return np.arange(start, stop) * 7919 % (MOST_POSITIONS + 1)


def expected(name: str, instances: int) -> npt.NDArray[np.uint8]:
    """Return the rows of the first instances of a layer."""
    rows = np.packbits(activations(name, 0, instances) > 0, axis=-1, bitorder="little")
    if name == SEQUENCES:
        return rows[np.arange(MOST_POSITIONS) < lengths(0, instances)[:, None]]
    return rows.reshape(-1, rows.shape[-1])


def capture(
    path: Path,
    begun: Callable[[], None] = lambda: None,
    instances: int = INSTANCES,
    flush_every: int = FLUSH_EVERY,
    queue_bytes: int = QUEUE_BYTES,
) -> None:
    """Capture from wherever the run stands, and call `begun` before the first instance."""
    try:
        done = ts.open_run(path).instances
    except (FileNotFoundError, ValueError):
        done = 0
    recorders = [
        ts.StateRecorder(name, path, mode="resume", queue_bytes=queue_bytes) for name in NEURONS
    ]
    sequences = ts.StateRecorder(
        SEQUENCES, path, mode="resume", queue_bytes=queue_bytes, variable_positions=True
    )
    begun()
    for start in range(done, instances, BATCH):
        stop = min(start + BATCH, instances)
        for recorder in recorders:
            recorder.record(activations(recorder.name, start, stop))
        sequences.record(activations(SEQUENCES, start, stop), lengths(start, stop))
        if start % flush_every == 0:
            recorders[0].flush()
    recorders[0].close()


def capture_unbroken(path: Path) -> float:
    """Capture in a process that is not killed; return the seconds from its first instance on."""
    process = _start(path)
    begin = time.perf_counter()
    _end(process)
    return time.perf_counter() - begin


def survive(
    path: Path, moments: random.Random, kills: int, unbroken: Path, seconds: float
) -> Survival:
    """Kill a capture at random moments, let it end, and look at what is there.

    Parameters
    ----------
    path : Path
        Where the run is stored.
    moments : random.Random
        Draws the moments.
    kills : int
        How often it is killed at the most; it may be done before.
    unbroken : Path
        A run that was never killed.
    seconds : float
        How long it took, which is the latest moment of a kill.
    """
    found, committed = Survival(runs=1), 0
    for _ in range(kills):
        if not _is_killed(path, moments.uniform(0, seconds)):
            break
        found += Survival(kills=1)
        try:
            run = ts.open_run(path)
        except (OSError, ValueError) as error:
            print(f"{path} after a kill: {error}", file=sys.stderr)
            continue
        found += Survival(opened=1, lost=max(0, committed - run.instances))
        committed = run.instances
        for name, layer in run.items():
            stored = np.asarray(layer.raw_states)
            whole = expected(name, layer.instance_count)
            wrong = int((stored != whole).any(axis=1).sum())
            lost = max(0, committed - layer.instance_count)
            found += Survival(rows=len(stored), wrong=wrong, lost=lost)
    _end(_start(path))
    return found + Survival(equal=chunks(path) == chunks(unbroken))


def _start(path: Path) -> subprocess.Popen[str]:
    """Start a process, and return when it has opened the run."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.kills", "--capture", str(path)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _end(process: subprocess.Popen[str]) -> None:
    """Wait for a process, and raise RuntimeError if it failed."""
    _, errors = process.communicate(timeout=300)
    if process.returncode > 0:
        raise RuntimeError(f"a capture failed: {errors.strip()}")


def _is_killed(path: Path, after: float) -> bool:
    """Kill a process some seconds after it began to capture; False if it had ended before."""
    process = _start(path)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    _end(process)
    return process.returncode == -signal.SIGKILL


def chunks(path: Path) -> dict[str, bytes]:
    """Return what is in the files of a run's chunks and of their digests, by their names."""
    found = (path.glob(f"*/part-*/{kind}/**/*") for kind in ("*/c", "digests"))
    files = (file for some in found for file in some if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--capture", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.capture:
        capture(options.capture, begun=lambda: print("capturing", flush=True))
        return

    moments, found = random.Random(options.seed), Survival()
    with tempfile.TemporaryDirectory() as folder:
        unbroken = Path(folder, "unbroken")
        seconds = capture_unbroken(unbroken)
        while found.kills < options.kills:
            most = min(KILLS_A_RUN, options.kills - found.kills)
            found += survive(Path(folder, f"run-{found.runs}"), moments, most, unbroken, seconds)
            print(f"{found.kills} kills", file=sys.stderr)
    header = [
        *("kills", "stores opened", "committed rows checked", "rows wrong", "instances lost"),
        *("runs", "resumed byte-equal"),
    ]
    row = [found.kills, found.opened, found.rows, found.wrong, found.lost, found.runs, found.equal]
    print(markdown(header, [row]))
    print(
        f"\n{INSTANCES} instances of {len(SHAPES)} layers in a run, {seconds:.1f} s without a "
        f"kill, seed {options.seed}; {machine()}, tensorstate {ts.__version__}"
    )
    sys.exit(0 if found.is_whole else 1)


if __name__ == "__main__":
    main()
