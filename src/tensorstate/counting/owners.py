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
GONE = "-removed"

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
    path = tempfile.mkdtemp(prefix=prefix, dir=below)
    draft = os.path.join(path, f"{LOCK}.draft")
    lock = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):  # a file system without locks: then nobody else has one
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # It gets its name when it is locked: without that name nobody looks at it.
        os.rename(draft, os.path.join(path, LOCK))
    _locks[path] = lock
    return path


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
        # Too young to be locked; or its removal was cut short.
        return folder.name.endswith(GONE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(lock)
