"""A disk that is full, and a folder that loses its permission."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import stat
import traceback
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

import tensorstate as ts
from benchmarks._faults import jobs
from benchmarks._faults.case import (
    RIGHT,
    TOLD,
    Case,
    Chance,
    LostError,
    NotHereError,
    NotInjuredError,
    WrongError,
)
from benchmarks._faults.jobs import INSTANCES, JOBS, told_by
from benchmarks._faults.kill import check_complete, check_rows, prepare_captured
from benchmarks.kills import chunks

__all__ = ["CASES"]

_NOBODY = 65534
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000  # linux/sched.h
_REMOUNT = 32  # sys/mount.h
_RUN_BYTES = 600_000


# A full disk is a file system in memory, which only the process sees that mounts it: it finds out
# itself what is left, and tells.


def _mount(folder: Path, size: int, flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size}".encode()
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options):
        raise OSError(ctypes.get_errno(), "a file system cannot be mounted")


def _own_mounts() -> None:
    """Let this process mount what no other one sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_USER | _NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "a process may not have mounts of its own")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _on_full_disk(job: str, folder: Path, size: int, whole: Path, told: Any) -> None:
    jobs.small()
    try:
        _own_mounts()
        disk = folder / "disk"
        disk.mkdir()
        _mount(disk, 64 << 20)
        if job != "captured":
            shutil.copytree(whole / "run", disk / "run")
            for cache in (disk / "run").glob("*/histogram"):
                shutil.rmtree(cache)
            used = sum(file.stat().st_blocks * 512 for file in disk.rglob("*"))
            size = used + size // 4
        _mount(disk, size - size % 4096, _REMOUNT)
    except OSError as error:
        told.send(("not here", str(error)))
        return
    try:
        told.send(_outcome_of_full_disk(job, disk, whole))
    except WrongError as error:
        told.send(("wrong", str(error)))
    except Exception:
        told.send(("lost", traceback.format_exc()))


def _outcome_of_full_disk(job: str, disk: Path, whole: Path) -> tuple[str, str]:
    error = ""
    try:
        JOBS[job](disk)
    except OSError as raised:
        error = str(raised)
    gc.collect()  # the recorders that failed, which have the run open
    committed = check_full(disk, job)
    left = [*(disk / "spill").glob("*")] if (disk / "spill").exists() else []
    if left:
        raise LostError(f"{left[0]} was left")
    _mount(disk, 64 << 20, _REMOUNT)
    JOBS[job](disk)
    if check_rows(disk / "run", committed) != INSTANCES:
        raise LostError("it does not go on")
    if job == "captured" and chunks(disk / "run") != chunks(whole / "run"):
        raise LostError("the resumed run is not byte-equal")
    if any(disk.rglob("*.partial")):
        raise LostError(f"{next(disk.rglob('*.partial'))} was left")
    return ("told", error) if error else ("right", "")


def check_full(disk: Path, job: str) -> int:
    """Look at what is there while the disk is full."""
    if not (disk / "run" / "zarr.json").exists():
        return 0
    # Counting would write, too.
    return ts.open_run(LocalStore(disk / "run", read_only=True)).instances


class _FullDisk:
    def __init__(self, job: str) -> None:
        self.job = job
        self.found: tuple[str, str] = ("", "")

    def prepare(self, folder: Path) -> Any:
        return prepare_captured(folder)

    def injure(self, subject: Any, folder: Path, draw: Chance) -> str:
        size = draw.randint(40_000, _RUN_BYTES)
        self.found = told_by(_on_full_disk, self.job, folder, size, subject.whole)
        return f"{size} bytes"

    def check(self, subject: Any, folder: Path) -> str:
        return _outcome(self.found)


def _outcome(found: tuple[str, str]) -> str:
    outcome, text = found
    if outcome == "not here":
        raise NotHereError(text)
    if outcome == "not injured":
        raise NotInjuredError
    if outcome == "wrong":
        raise WrongError(text)
    if outcome == "lost":
        raise LostError(text)
    return TOLD if outcome == "told" else RIGHT


# Whoever is root may write anywhere, and so becomes somebody else.


def _without_permission(folder: Path, number: int, place: int, told: Any) -> None:
    jobs.small()
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    lost: list[Path] = []

    def take_permission(event: str, arguments: tuple[Any, ...]) -> None:
        folders = [path for path in [folder, *folder.rglob("*")] if path.is_dir()]
        lost.append(folders[place % len(folders)])
        lost[0].chmod(stat.S_IRUSR | stat.S_IXUSR)

    jobs.at_event(number, str(folder), take_permission)
    try:
        jobs.captured(folder)
    except OSError as error:
        told.send(("told", str(error)))
    else:
        told.send(("right" if lost else "not injured", ""))
    for path in lost:
        path.chmod(0o755)


class _NoPermission:
    found: tuple[str, str] = ("", "")

    def injure(self, subject: Any, folder: Path, draw: Chance) -> str:
        folder.chmod(0o755)
        if os.getuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
        number, place = draw.randint(1, subject.operations), draw.randrange(1000)
        self.found = told_by(_without_permission, folder, number, place)
        return f"at operation {number}: {self.found[1]}"

    def check(self, subject: Any, folder: Path) -> str:
        outcome = _outcome(self.found)
        check_complete(subject, folder)
        return outcome


def _full(job: str, what: str) -> Case:
    case = _FullDisk(job)
    return Case(f"full-{job}", what, 50, case.prepare, case.injure, case.check)


_no_permission = _NoPermission()

CASES = [
    _full("captured", "a disk that fills while states are captured"),
    _full("counted", "a disk that fills while counts are cached"),
    _full("spilled", "a disk that fills while a count spills"),
    Case(
        "permission",
        "a folder that loses its permission while states are captured",
        50,
        prepare_captured,
        _no_permission.injure,
        _no_permission.check,
    ),
]
