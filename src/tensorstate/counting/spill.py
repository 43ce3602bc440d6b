"""The directory of the files that the tasks of one count write and read.

Files are written under a name of their own and renamed when they are complete. The name depends
on the task alone: a task that runs twice replaces a file by an equal one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import fsspec
import numpy as np
import numpy.typing as npt

from tensorstate.counting.files import LocalWriter, Request, read_local
from tensorstate.counting.keys import U8Array
from tensorstate.counting.owners import make_owned, remove_abandoned, remove_owned
from tensorstate.counting.pages import BLOCK, blocks
from tensorstate.urls import clear_errors, hide_credentials

__all__ = ["SpillDirectory", "Write"]

Write: TypeAlias = Callable[[npt.NDArray[Any]], None]

PREFIX = "tensorstate-spill-"
MARK = "here"

BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
"""Protocols of stores that keep objects in buckets and have no folders."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(eq=False)
class SpillDirectory:
    """A private directory for the files of one count.

    Attributes
    ----------
    path : str
        A local directory, or an fsspec URL.
    is_local : bool
        Which of them.
    """

    path: str = field(repr=False)  # a URL may have credentials, and workers log what they are given
    is_local: bool

    @classmethod
    def create(cls, below: str) -> SpillDirectory:
        """Make a fresh directory that only this user can read.

        What processes that were killed left in the same place is removed.

        Parameters
        ----------
        below : str
            A local directory, which is made if need be, or an fsspec URL.

        Returns
        -------
        SpillDirectory

        Raises
        ------
        OSError
            If it cannot be made.
        """
        if below.startswith("file://"):
            below = below.removeprefix("file://")
        if "://" not in below:
            try:
                folder = Path(below).resolve()
                folder.mkdir(parents=True, exist_ok=True)
                remove_abandoned(folder, PREFIX)
                return cls(make_owned(folder, PREFIX), True)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{below} cannot hold spill files ({error.strerror}): "
                    "pass spill, a directory that can be written",
                ) from error
        directory = cls(f"{below.rstrip('/')}/{PREFIX}{uuid.uuid4().hex}", False)
        directory._make_remote()
        return directory

    def _make_remote(self) -> None:
        with clear_errors(self._where):
            files, root = self._files()
            protocols = {files.protocol} if isinstance(files.protocol, str) else {*files.protocol}
            # These have no folders, and would make a bucket of a name that was mistyped.
            if protocols.isdisjoint(BUCKETS):
                files.makedirs(root, exist_ok=True)
            # What cannot be written is to be known before rows are read.
            files.pipe_file(f"{root}/{MARK}", b"")

    @property
    def identity(self) -> str:
        """The name that no other directory of a count has."""
        return self.path.rpartition("/")[2]

    @property
    def _where(self) -> str:
        return hide_credentials(self.path)

    def _files(self) -> tuple[Any, str]:
        files, root = fsspec.core.url_to_fs(self.path)
        return files, root

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Write]:
        """Write a file, which gets its name when the block ends without an error.

        Parameters
        ----------
        name : str
            Name within the directory.

        Yields
        ------
        callable
            Appends the bytes of an array.

        Raises
        ------
        OSError
            If it cannot be written; if the disk is full, with what to do.
        """
        draft = f"{name}.{uuid.uuid4().hex}"
        try:
            if self.is_local:
                path = Path(self.path, draft)
                with LocalWriter(str(path)) as writer:
                    yield writer.write
                path.replace(Path(self.path, name))
            else:
                with clear_errors(self._where):
                    files, root = self._files()
                    with files.open(f"{root}/{draft}", "wb") as file:
                        yield lambda array: file.write(_bytes_of(array)) and None
                    files.mv(f"{root}/{draft}", f"{root}/{name}")
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise OSError(
                error.errno,
                f"the disk of the spill directory {self._where} is full: free some space, "
                "pass spill, a directory on a larger disk, or raise memory_limit",
            ) from error

    def exists(self, name: str) -> bool:
        """Whether a file is complete."""
        if self.is_local:
            return Path(self.path, name).exists()
        with clear_errors(self._where):
            files, root = self._files()
            return bool(files.exists(f"{root}/{name}"))

    def read(self, name: str, start: int, into: U8Array) -> None:
        """Fill an array with the bytes of a file from byte `start` on; see `read_all`."""
        request = Request(name, start, len(into), blocks(len(into) + 2 * BLOCK))
        self.read_all([request])
        into[:] = request.content

    def read_all(self, requests: Sequence[Request]) -> None:
        """Fill the rooms of requests.

        Parameters
        ----------
        requests : sequence of Request
            Those of one file are best next to each other.

        Raises
        ------
        OSError
            If a file is not there, or shorter.
        """
        try:
            if self.is_local:
                read_local(self.path, requests)
            else:
                self._read_remote(requests)
        except FileNotFoundError as error:
            raise self._gone() from error

    def _read_remote(self, requests: Sequence[Request]) -> None:
        with clear_errors(self._where):
            files, root = self._files()
            found = files.cat_ranges(
                [f"{root}/{request.name}" for request in requests],
                [request.start for request in requests],
                [request.start + request.size for request in requests],
                on_error="raise",
            )
        for request, content in zip(requests, found, strict=True):
            if len(content) != request.size:
                raise OSError(f"spill file {self._where}/{request.name} ended early: count again")
            request.content[:] = np.frombuffer(content, np.uint8)

    def damaged(self, name: str) -> OSError:
        """Return the error for a file that does not hold what was written to it."""
        return OSError(
            errno.EIO,
            f"spill file {self._where}/{name} does not hold what was written to it: count again, "
            "and pass spill, a directory on another disk, if that happens again",
        )

    def _gone(self) -> FileNotFoundError:
        return FileNotFoundError(
            errno.ENOENT,
            f"a spill file is not in {self._where}: "
            "pass spill, a directory or URL that all workers reach",
        )

    def size(self) -> int:
        """Return how many bytes the files have by now."""
        if self.is_local:
            with os.scandir(self.path) as entries:
                return sum(entry.stat().st_size for entry in entries)
        with clear_errors(self._where):
            files, root = self._files()
            found = files.find(root, detail=True, refresh=True)
        return sum(int(entry["size"] or 0) for entry in found.values())

    def remove_with_last(self) -> None:
        """Remove the directory when nothing refers to this object any more."""
        weakref.finalize(self, _remove_here, replace(self), os.getpid())

    def remove(self) -> None:
        """Remove the directory; tasks that are still running fail when they next write."""
        if self.is_local:
            remove_owned(self.path)
            return
        with contextlib.suppress(FileNotFoundError), clear_errors(self._where):
            files, root = self._files()
            files.rm(root, recursive=True)


def _remove_here(directory: SpillDirectory, process: int) -> None:
    # A forked child has a copy of the object, and no say in the files.
    if os.getpid() != process:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _remove_or_warn(directory)
    else:
        # Garbage is collected anywhere: also in the loop that remote stores wait for.
        threading.Thread(target=_remove_or_warn, args=(directory,)).start()


def _remove_or_warn(directory: SpillDirectory) -> None:
    try:
        directory.remove()
    except OSError as error:
        warnings.warn(
            f"spill files are left and can be removed: {error}", RuntimeWarning, stacklevel=2
        )


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
