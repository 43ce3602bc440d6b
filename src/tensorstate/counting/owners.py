"""Local directories that belong to a living process, and those that a killed one left behind.

A directory holds a file that its process has locked for as long as it lives: the system releases
the lock however the process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["make_owned", "remove_abandoned", "remove_owned"]

LOCK = "owner"
GONE, YOUNG = "-removed", "-young"

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

_locks: dict[str, int] = {}


def make_owned(below: Path, prefix: str) -> str:
    """Make a directory that belongs to this process and that only this user can read.

    Parameters
    ----------
    below : pathlib.Path
        An existing directory.
    prefix : str
        How its name begins.

    Returns
    -------
    str
        Its path.
    """
    while True:
        young = tempfile.mkdtemp(suffix=YOUNG, prefix=prefix, dir=below)
        path = young.removesuffix(YOUNG)
        lock = -1
        try:
            lock = os.open(os.path.join(young, LOCK), _NEW, 0o600)
            _lock(lock)
            os.rename(young, path)
        except BaseException as error:
            if lock >= 0:
                os.close(lock)
            if isinstance(error, (FileNotFoundError, BlockingIOError)):
                continue  # another process took it for one that was left behind
            shutil.rmtree(young, ignore_errors=True)
            raise
        _locks[path] = lock
        return path


def _lock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks: what is killed there stays


def remove_owned(path: str) -> None:
    """Remove a directory; who still writes to it fails."""
    with contextlib.suppress(OSError):
        # Nothing can be created below a name that is gone: what is there stays all.
        os.rename(path, path + GONE)
        shutil.rmtree(path + GONE, ignore_errors=True)
    lock = _locks.pop(path, None)
    if lock is not None:
        os.close(lock)


def remove_abandoned(below: Path, prefix: str) -> None:
    """Remove what processes that were killed left below a directory.

    Only directories of this user count, and only those that `make_owned` made.
    """
    for folder in below.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            if _is_abandoned(folder):
                gone = str(folder).removesuffix(GONE) + GONE
                os.rename(folder, gone)
                shutil.rmtree(gone, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        # Its removal was cut short; or it is too young, and its maker, if alive, makes another.
        return folder.name.endswith((GONE, YOUNG))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(lock)
