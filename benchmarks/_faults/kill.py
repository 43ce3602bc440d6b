"""Processes that are killed with SIGKILL, at one of their operations with files or soon after."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tensorstate as ts
from benchmarks._faults.case import (
    RIGHT,
    TOLD,
    Case,
    Chance,
    LostError,
    NotInjuredError,
    WrongError,
    check_counts,
)
from benchmarks._faults.jobs import ALL_LAYERS, INSTANCES, do
from benchmarks._faults.jobs import rows as rows_of
from benchmarks.kills import chunks

__all__ = ["CASES", "check_complete", "check_rows", "prepare_captured"]

_LATEST = 0.02  # seconds after an operation


@dataclass(frozen=True)
class Subject:
    """What is killed.

    Attributes
    ----------
    job : str
        What the process does.
    operations : int
        How many operations it has with files whose path contains `below`.
    below : str
        Which of them may be its last.
    whole : Path
        What it leaves behind if it is not killed.
    """

    job: str
    operations: int
    below: str
    whole: Path


def _prepare(folder: Path, job: str, before: str = "", below: str = "") -> Subject:
    """Do a job that is not killed, after another one, and count its operations."""
    if before:
        do(before, folder, str(folder))
    operations = do(job, folder, below or str(folder))
    if not operations:
        raise LostError(f"{job} has no operation with files in {below}")
    return Subject(job, operations, below, folder)


def prepare_captured(folder: Path) -> Subject:
    """Capture a run without a fault."""
    return _prepare(folder, "captured")


def _kill(subject: Subject, folder: Path, draw: Chance, job: str = "") -> str:
    number = draw.randint(1, subject.operations)
    share = draw.random() if draw.random() < 0.5 else 1.0
    delay = draw.uniform(0, _LATEST) if draw.random() < 0.3 else 0.0
    below = subject.below or str(folder)
    if do(job or subject.job, folder, below, number, share, delay) is not None:
        raise NotInjuredError
    after = f" and {delay:.3f} s" if delay else ""
    cut = f", {share:.2f} of a file" if share < 1 else ""
    return f"killed after {number} of {subject.operations} operations{after}{cut}"


def check_rows(path: Path, least: int = 0) -> int:
    """Compare every committed row of a run; return how many instances are committed."""
    run = ts.open_run(path)
    if run.instances < least:
        raise LostError(f"{least} instances were committed, and {run.instances} are there")
    for name, layer in run.items():
        if layer.instance_count < run.instances:
            raise LostError(f"{name} has {layer.instance_count} of {run.instances} instances")
        rows = rows_of(name)[: layer.state_count]
        if not np.array_equal(np.asarray(layer.raw_states), rows):
            raise WrongError(f"{name} holds other rows")
        if len(rows):
            check_counts(layer, rows, name)
    damage = run.verify()
    if len(damage):
        raise LostError(f"verify found damage: {damage.problem[0]}")
    return run.instances


def _check_live(path: Path) -> int:
    run = ts.open_run(path)
    for name, layer in run.items():
        if layer.instance_count < run.instances:
            raise LostError(f"{name} has {layer.instance_count} of {run.instances} instances")
        if layer.state_count:
            check_counts(layer, rows_of(name)[: layer.state_count], name)
    if len(run.verify()):
        raise LostError(f"verify found damage: {run.verify().problem[0]}")
    return run.instances


def check_complete(subject: Subject, folder: Path) -> str:
    """Let a killed capture go on to its end, which is to be as if it had not been killed."""
    try:
        committed = check_rows(folder / "run")
    except (FileNotFoundError, ValueError) as error:
        if (folder / "run" / "zarr.json").exists():
            raise LostError(f"it cannot be opened: {error}") from error
        committed = 0  # it was killed before there was a run
    if committed and set(ts.open_run(folder / "run")) != set(ALL_LAYERS):
        raise LostError(f"{committed} instances are committed, but not in all layers")
    do(subject.job, folder, str(folder))
    if check_rows(folder / "run", committed) != INSTANCES:
        raise LostError("the resumed capture is not complete")
    if chunks(folder / "run") != chunks(subject.whole / "run"):
        raise LostError("the resumed run is not byte-equal")
    _check_nothing_left(folder)
    return RIGHT


def _check_nothing_left(folder: Path) -> None:
    left = [*folder.rglob("*.partial"), *folder.rglob(".removed-*"), *folder.rglob(".lock*")]
    if left:
        raise LostError(f"{left[0].relative_to(folder)} was left")


def _injure_resumed(subject: Subject, folder: Path, draw: Chance) -> str:
    """Kill a capture, and then the one that goes on."""
    first = _kill(subject, folder, draw)
    return f"{first}; {_kill(subject, folder, draw)}"


def _check_live_complete(subject: Subject, folder: Path) -> str:
    committed = 0
    if (folder / "run" / "zarr.json").exists():
        committed = _check_live(folder / "run")
    do(subject.job, folder, str(folder))
    if _check_live(folder / "run") != INSTANCES:
        raise LostError("the resumed capture is not complete")
    if committed == INSTANCES:
        return RIGHT  # nothing was left to be captured, and so nothing is counted or removed
    waiting = [*(folder / "run").glob("*/part-0/states/c/*")]
    entries = [len([*part.iterdir()]) for part in (folder / "run").glob("*/part-0/counted")]
    if waiting or any(number > 2 for number in entries):
        raise LostError(f"{len(waiting)} chunks and {entries} histograms were left")
    _check_nothing_left(folder)
    return RIGHT


def _prepare_overwritten(folder: Path) -> Subject:
    return _prepare(folder, "overwritten", before="captured")


def _injure_overwritten(subject: Subject, folder: Path, draw: Chance) -> str:
    do("captured", folder, str(folder))
    return _kill(subject, folder, draw)


def _check_overwritten(subject: Subject, folder: Path) -> str:
    outcome = RIGHT
    if (folder / "run" / "zarr.json").exists():
        check_rows(folder / "run")
    do("overwritten", folder, str(folder))
    if check_rows(folder / "run") != INSTANCES or list(ts.open_run(folder / "run")) != ["conv_1"]:
        raise LostError("the run that was written anew is not complete")
    _check_nothing_left(folder)
    return outcome


def _injure_count(subject: Subject, folder: Path, draw: Chance) -> str:
    shutil.copytree(subject.whole / "run", folder / "run")
    for cache in (folder / "run").glob("*/histogram"):
        shutil.rmtree(cache)
    return _kill(subject, folder, draw)


def _check_count(subject: Subject, folder: Path) -> str:
    if check_rows(folder / "run") != INSTANCES:
        raise LostError("the run lost instances")
    # The counts of that are cached: without them, the next count spills like the one before.
    for cache in (folder / "run").glob("*/histogram/zarr.json"):
        cache.unlink()
    do(subject.job, folder, str(folder))
    if (folder / "spill").exists() and [*(folder / "spill").iterdir()]:
        raise LostError("the next count left spill files of a killed one")
    if [*folder.glob("run/*/histogram/*.partial")]:
        raise LostError("the next count left an attribute of the cache that was not written")
    check_rows(folder / "run")
    return RIGHT


def _injure_save(subject: Subject, folder: Path, draw: Chance) -> str:
    return _kill(subject, folder, draw)


def _check_save(subject: Subject, folder: Path) -> str:
    whole = ts.StateHistogram.load(subject.whole / "histogram")
    try:
        found, outcome = ts.StateHistogram.load(folder / "histogram"), RIGHT
    except (FileNotFoundError, ValueError):
        outcome = TOLD
    else:
        if found != whole:
            raise WrongError("what was cut short is loaded as another histogram")
    whole.save(folder / "again")
    return outcome


CASES = [
    Case(
        "kill-capture",
        "SIGKILL of a capture",
        200,
        prepare_captured,
        _kill,
        check_complete,
    ),
    Case(
        "kill-flush",
        "SIGKILL of a capture that commits each batch",
        200,
        lambda folder: _prepare(folder, "flushed"),
        _kill,
        check_complete,
    ),
    Case(
        "kill-resume",
        "SIGKILL of a capture, and of the resumed one",
        200,
        prepare_captured,
        _injure_resumed,
        check_complete,
    ),
    Case(
        "kill-live",
        "SIGKILL of a capture that counts",
        200,
        lambda folder: _prepare(folder, "captured_live"),
        _kill,
        _check_live_complete,
    ),
    Case(
        "kill-overwrite",
        "SIGKILL while a run is overwritten",
        200,
        _prepare_overwritten,
        _injure_overwritten,
        _check_overwritten,
    ),
    Case(
        "kill-count",
        "SIGKILL of a count in memory",
        200,
        lambda folder: _prepare(folder, "counted", before="captured"),
        _injure_count,
        _check_count,
    ),
    Case(
        "kill-spill",
        "SIGKILL of a count with spill files",
        200,
        lambda folder: _prepare(folder, "spilled", before="captured", below="/spill/"),
        _injure_count,
        _check_count,
    ),
    Case(
        "kill-cache",
        "SIGKILL while counts are cached",
        200,
        lambda folder: _prepare(folder, "counted", before="captured", below="/histogram"),
        _injure_count,
        _check_count,
    ),
    Case(
        "kill-save",
        "SIGKILL while a histogram is saved",
        200,
        lambda folder: _prepare(folder, "saved"),
        _injure_save,
        _check_save,
    ),
]
