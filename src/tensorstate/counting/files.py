"""Local files that are written once and read in pieces, past the page cache where that pays.

Spill files are larger than memory as a rule, and each byte of them is read once. Through the page
cache they would drive out what is useful there, the input first of all, and each page of it costs
the processor time. So large pieces go to the disk directly, unless it is slow or its file system
cannot do that: then the page cache is the better way, as it is for small pieces.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tensorstate.counting.pages import BLOCK, U8Array, blocks

__all__ = ["LocalWriter", "Request", "read_local"]

BUFFER_BYTES = 1 << 20
READERS = 4
"""How many files are read at once, to keep the disk busy, where it is worth to start threads."""

LEAST_FOR_THREADS = 8 << 20

LEAST_DIRECT = 1 << 18
"""Smaller pieces are read and written through the page cache."""

SLOW = 700e6
"""Bytes a second: a disk that writes slower is left to the page cache."""

MEASURED_BYTES = 32 << 20

_DIRECT = getattr(os, "O_DIRECT", 0)
_INDIRECT_DEVICES: set[int] = set()


def _go_directly(file: int, size: int) -> bool:
    """Let an open file be read or written past the page cache, or not; return which."""
    device = os.fstat(file).st_dev
    wanted = size >= LEAST_DIRECT and _DIRECT != 0 and device not in _INDIRECT_DEVICES
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, flags | _DIRECT if wanted else flags & ~_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _INDIRECT_DEVICES.add(device)
        return False
    return wanted


class Request(NamedTuple):
    """What is to be read from a file.

    Attributes
    ----------
    name : str
        Which file.
    start : int
        The first byte.
    size : int
        How many bytes.
    room : (bytes,) uint8
        Filled with the blocks that hold them: it begins at a multiple of the size of a block, as
        what is read does, and is long enough.
    """

    name: str
    start: int
    size: int
    room: U8Array

    @property
    def content(self) -> U8Array:
        """The bytes that were asked for, once they are read."""
        skip = self.start % BLOCK
        return self.room[skip : skip + self.size]


class LocalWriter:
    """Writes a new file from its beginning to its end.

    Parameters
    ----------
    path : str
        A file that is not there yet.

    Attributes
    ----------
    direct_bytes : int
        How much of it was written past the page cache.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._buffer = blocks(BUFFER_BYTES)
        self._held = 0
        self._written = 0
        self._direct_seconds = 0.0
        self.direct_bytes = 0

    def __enter__(self) -> LocalWriter:
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            os.close(self._file)

    def write(self, array: npt.NDArray[Any]) -> None:
        """Append the bytes of an array."""
        content: U8Array = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        is_aligned = self._held % BLOCK == 0 and content.ctypes.data % BLOCK == 0
        if is_aligned and len(content) >= LEAST_DIRECT:
            self._flush()
            whole = len(content) // BLOCK * BLOCK
            self._put(content[:whole])
            content = content[whole:]
        while len(content):
            part = content[: BUFFER_BYTES - self._held]
            self._buffer[self._held : self._held + len(part)] = part
            self._held += len(part)
            content = content[len(part) :]
            if self._held == BUFFER_BYTES:
                self._flush()

    def _flush(self) -> None:
        self._put(self._buffer[: self._held])
        self._held = 0

    def _put(self, content: U8Array) -> None:
        is_direct = _go_directly(self._file, len(content))
        before = time.perf_counter()
        left = content.data
        while left:
            left = left[os.write(self._file, left) :]
        self._written += len(content)
        if is_direct:
            self.direct_bytes += len(content)
            self._direct_seconds += time.perf_counter() - before

    def _finish(self) -> None:
        size = self._written + self._held
        self.write(np.zeros(-self._held % BLOCK, np.uint8))
        self._flush()
        os.ftruncate(self._file, size)
        if MEASURED_BYTES < self.direct_bytes < SLOW * self._direct_seconds:
            _INDIRECT_DEVICES.add(os.fstat(self._file).st_dev)


def read_local(folder: str, requests: Sequence[Request]) -> None:
    """Fill the rooms of requests, several files at once.

    Parameters
    ----------
    folder : str
        Where the files are.
    requests : sequence of Request
        Those of one file are best next to each other.

    Raises
    ------
    OSError
        If a file is not there, or shorter.
    """
    files = [list(several) for _, several in groupby(requests, key=attrgetter("name"))]
    if sum(request.size for request in requests) < LEAST_FOR_THREADS:
        for several in files:
            _read_file(folder, several)
        return
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(partial(_read_file, folder), files))


def _read_file(folder: str, requests: Sequence[Request]) -> None:
    path = os.path.join(folder, requests[0].name)
    file = os.open(path, os.O_RDONLY)
    try:
        for request in requests:
            needed = request.start % BLOCK + request.size
            place = request.start - request.start % BLOCK
            done = 0
            _go_directly(file, needed)
            while done < needed:
                # Direct reads end with a block too, or with the file.
                wanted = request.room[done : needed + -needed % BLOCK]
                count = os.preadv(file, [wanted.data], place + done)
                if not count:
                    raise OSError(f"spill file {path} ended early: count again")
                done += count
    finally:
        os.close(file)
