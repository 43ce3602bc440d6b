"""A clock that goes back, and readers and writers of one run at the same time."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import tensorstate as ts
from benchmarks._faults import jobs
from benchmarks._faults.case import (
    RIGHT,
    Case,
    Chance,
    LostError,
    WrongError,
    check_counts,
)
from benchmarks._faults.jobs import INSTANCES, rows, told_by
from benchmarks.kills import POSITIONS, SEQUENCES, activations, lengths
from tensorstate.storage import entry, format

__all__ = ["CASES"]

_BATCH = 20
_SECONDS = 60


class _Clock(datetime):
    """A clock that somebody sets."""

    offset = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """Return what it shows."""
        return datetime.now(tz) + cls.offset


def _shifted(real: Callable[[], float]) -> Callable[[], float]:
    return lambda: real() + _Clock.offset.total_seconds()


def _with_clock(folder: Path, seed: int, told: Any) -> None:
    """Capture and count with a clock that is set anew again and again, back and forth."""
    draw = random.Random(seed)
    jobs.small()
    with (
        mock.patch.object(entry, "datetime", _Clock),
        mock.patch.object(format, "datetime", _Clock),
        mock.patch.object(time, "time", side_effect=_shifted(time.time)),
    ):
        for end in range(40, INSTANCES + 1, 40):
            _Clock.offset = timedelta(days=draw.choice([-1, 1]) * 10 ** draw.uniform(-5, 4))
            options: dict[str, Any] = {"mode": "resume", "queue_bytes": jobs.QUEUE_BYTES}
            live = ts.StateRecorder("live", folder / "run", histogram="live", **options)
            with closing(ts.StateRecorder("conv_1", folder / "run", **options)) as recorder:
                for begin in range(end - 40, end, _BATCH):
                    batch = activations("conv_1", begin, begin + _BATCH)
                    recorder.record(batch)
                    live.record(batch)
            _Clock.offset -= timedelta(days=10 ** draw.uniform(-5, 4))
            run = ts.open_run(folder / "run")
            for layer in run.values():
                check_counts(layer, rows("conv_1")[: end * POSITIONS["conv_1"]], "conv_1")
    entries = [len([*path.iterdir()]) for path in (folder / "run").glob("*/histogram")]
    told.send(("right", "") if entries == [2] else ("lost", f"{entries} entries in the cache"))


class _SetBack:
    found = ("", "")

    def injure(self, subject: Any, folder: Path, draw: Chance) -> str:
        seed = draw.randrange(1 << 30)
        self.found = told_by(_with_clock, folder, seed)
        return f"clock {seed}"

    def check(self, subject: Any, folder: Path) -> str:
        if self.found[0] != "right":
            raise LostError(self.found[1])
        run = ts.open_run(folder / "run")
        if run.instances != INSTANCES or len(run.verify()):
            raise LostError("the run is not whole")
        if datetime.fromisoformat(run.attributes["created"]).tzinfo != UTC:
            raise WrongError("the time at which it was created is none")
        return RIGHT


def _write_part(folder: Path, part: int, pause: float, told: Any) -> None:
    """Write half of the instances, some layers live."""
    jobs.small()
    half = INSTANCES // 2
    first = part * half
    options: dict[str, Any] = {"part": part, "first_instance": first, "queue_bytes": 20_000}
    equal = ts.StateRecorder("conv_1", folder / "run", **options)
    live = ts.StateRecorder("conv_2", folder / "run", histogram="live", **options)
    varying = ts.StateRecorder(SEQUENCES, folder / "run", variable_positions=True, **options)
    for begin in range(first, first + half, 10):
        equal.record(activations("conv_1", begin, begin + 10))
        live.record(activations("conv_2", begin, begin + 10))
        varying.record(activations(SEQUENCES, begin, begin + 10), lengths(begin, begin + 10))
        if begin % 40 == 0:
            equal.flush()
        time.sleep(pause)
    equal.close()
    told.send(("right", ""))


def _rows_of(name: str, numbers: list[int]) -> Any:
    """Return the rows of instances of a layer."""
    if name == SEQUENCES:
        ends = np.cumsum(lengths(0, INSTANCES))
        pieces = [rows(name)[ends[n] - lengths(n, n + 1)[0] : ends[n]] for n in numbers]
        return np.concatenate([rows(name)[:0], *pieces])
    positions = POSITIONS[name]
    return rows(name).reshape(INSTANCES, positions, -1)[numbers].reshape(-1, rows(name).shape[1])


class _Readers:
    def injure(self, subject: Any, folder: Path, draw: Chance) -> str:
        receiver, sender = jobs.pipe()
        pause = draw.uniform(0.005, 0.05)
        writers = [jobs.start(_write_part, folder, part, pause, sender) for part in range(2)]
        seen: list[int] = []
        try:
            while any(writer.is_alive() for writer in writers):
                seen.append(self._look(folder / "run"))
        finally:
            for writer in writers:
                writer.join(_SECONDS)
        if any(writer.exitcode for writer in writers) or not receiver.poll():
            raise LostError("a writer failed")
        if seen != sorted(seen):
            raise LostError(f"a reader saw {seen} instances, one after the other")
        return f"{len(set(seen))} states of a run seen, in {len(seen)} looks"

    def _look(self, path: Path) -> int:
        """Compare what is there with what it must be; return how many instances there are."""
        try:
            run = ts.open_run(path)
        except FileNotFoundError:
            return 0
        numbers = [n for part in sorted(run.parts.values(), key=lambda r: r.start) for n in part]
        for name, layer in run.items():
            expected = _rows_of(name, numbers)
            if name == "conv_2":
                self._look_at_live(layer, expected)
            elif not np.array_equal(np.asarray(layer.raw_states), expected):
                raise WrongError(f"a reader saw other rows of {name}")
        return run.instances

    def _look_at_live(self, layer: Any, expected: Any) -> None:
        if layer.state_count != len(expected):  # what is counted cannot be taken apart again
            return
        try:
            check_counts(layer, expected, layer.name) if len(expected) else None
        except ValueError as error:
            if "open the run again" not in str(error):
                raise

    def check(self, subject: Any, folder: Path) -> str:
        if self._look(folder / "run") != INSTANCES or len(ts.open_run(folder / "run").verify()):
            raise LostError("the run is not whole")
        shutil.rmtree(folder / "run")
        return RIGHT


_clock, _readers = _SetBack(), _Readers()

CASES = [
    Case(
        "clock",
        "a clock that goes back and forth while a run is captured, resumed and counted",
        50,
        lambda folder: None,
        _clock.injure,
        _clock.check,
    ),
    Case(
        "readers",
        "a reader while two processes write one run",
        50,
        lambda folder: None,
        _readers.injure,
        _readers.check,
    ),
]
