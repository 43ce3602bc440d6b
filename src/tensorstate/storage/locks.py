"""Locks that keep two processes from writing the same part of a run on a disk.

A writer holds an empty file in the run's folder: ``.lock`` if it writes the run alone, and
``.lock-<part>`` if it writes one part of several. The system releases the lock however the process
ends, so that a file that a killed process left behind keeps nobody out. Stores that are not a
folder have no such locks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import warnings
import weakref
from pathlib import Path

__all__ = ["WriterLock", "is_lock_name", "lock_writer"]

_ALONE = ".lock"

# A link is followed nowhere: in a run from someone else, it may name any file of ours.
_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


def is_lock_name(name: str) -> bool:
    """Whether a file of a run's folder is a lock, and so no content.

    Examples
    --------
    >>> is_lock_name(".lock"), is_lock_name(".lock-3"), is_lock_name("conv_1_states")
    (True, True, False)
    """
    return name == _ALONE or name.startswith(f"{_ALONE}-")


class WriterLock:
    """A lock that is held until it is released or the process ends.

    Parameters
    ----------
    path : pathlib.Path, optional
        The file that is locked; None is a lock that keeps nobody out.
    file : int
        Its descriptor.
    """

    def __init__(self, path: Path | None = None, file: int = -1) -> None:
        self._path = path
        self._file = file
        if path is not None:
            _held.add(self)

    def release(self) -> None:
        """Let others write; releasing twice does nothing."""
        path, self._path = self._path, None
        if path is None:
            return
        with contextlib.suppress(OSError):
            # As long as it is locked, nobody else takes this file for a free one.
            if _is_at(self._file, path):
                path.unlink()
        with contextlib.suppress(OSError):
            # Also for the processes that were forked meanwhile and have the file open.
            fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)

    def forget(self) -> None:
        """Leave the lock to the process that this one was forked from."""
        if self._path is not None:
            self._path = None
            os.close(self._file)


def lock_writer(folder: Path, part: str | None) -> WriterLock:
    """Lock a run for a writer that is alone, or one part of it.

    Each side takes its own lock before it looks for that of the other: of two that start at once,
    at least one sees the other.

    Parameters
    ----------
    folder : pathlib.Path
        The run's folder, which exists.
    part : str or None
        The part to write; None for a writer that writes the run alone.

    Returns
    -------
    WriterLock
        On a file system that does not lock files it keeps nobody out; a RuntimeWarning says so.

    Raises
    ------
    FileExistsError
        If another writer holds the part or the run.
    OSError
        If no file can be made in the folder.
    """
    path = folder / (_ALONE if part is None else f"{_ALONE}-{part}")
    try:
        file = _take(path)
    except PermissionError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileExistsError(f"{path} is a link and no lock: remove it") from None
        if _can_make(path):
            warnings.warn(
                f"the file system of {folder} does not lock files ({error.strerror}): nothing "
                "keeps another process from writing the same states, so see to it that none does",
                RuntimeWarning,
                stacklevel=2,
            )
            return WriterLock()
        raise
    what = f"the run {folder}" if part is None else f"part {part!r} of the run {folder}"
    if file is None:
        raise FileExistsError(
            f"{what} is open for writing in another process: wait for its end, or "
            f"{'choose another storage path' if part is None else 'choose another part'}"
        )
    lock = WriterLock(path, file)
    try:
        _check_nobody_else(folder, part)
    except BaseException:
        lock.release()
        raise
    return lock


def _check_nobody_else(folder: Path, part: str | None) -> None:
    """Raise FileExistsError if a writer that is to be alone is not."""
    if part is not None:
        if _is_held(folder / _ALONE):
            raise FileExistsError(
                f"the run {folder} is open for writing in another process, which writes it alone: "
                "wait for its end, or give every writer a part"
            )
        return
    for name in sorted(os.listdir(folder)):
        if name.startswith(f"{_ALONE}-") and _is_held(folder / name):
            other = name.removeprefix(f"{_ALONE}-")
            raise FileExistsError(
                f"part {other!r} of the run {folder} is open for writing: wait for its end, choose "
                "another storage path, or give every writer a part"
            )


def _take(path: Path) -> int | None:
    """Lock a file, which is made if need be; None if another one holds it."""
    while True:
        file = os.open(path, os.O_CREAT | _OPEN, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except BaseException:
            os.close(file)
            raise
        # Who held it until now has removed it at the end: then this is nobody's lock.
        if _is_at(file, path):
            return file
        os.close(file)


def _is_held(path: Path) -> bool:
    try:
        file = os.open(path, _OPEN)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link, which no writer made
            return False
        raise
    try:
        # Shared, so that those who look at the same time do not take each other for the holder.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _can_make(path: Path) -> bool:
    """Whether the file could be made, so that only the lock failed; it is taken away again."""
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()

# A child that goes on after its parent was killed is not to keep the lock.
os.register_at_fork(after_in_child=_forget_all)
