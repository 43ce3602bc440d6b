"""Spill files, which map tasks write and merge tasks read, and the directory that holds them.

A spill file holds the pieces of one block, cut into *units*: ranges of partitions, one after the
other, so that the same range of all files is one read from each. Its end is an index:

    unit 0 | unit 1 | ... | index: (units + 1, 2) int64, bytes and keys before each unit

and a unit is its pieces one after the other: four int64 (chunks, keys, whether it has counts,
partitions), `add`, `starts`, keys, counts if any, and rows, padded to eight bytes.

Files are written under a name of their own and renamed when they are complete. The name depends
on the task alone: a task that runs twice replaces a file by an equal one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import fsspec
import numpy as np
import numpy.typing as npt

from tensorstate.counting.blocks import I64Array, Piece
from tensorstate.counting.keys import U8Array

__all__ = ["SpillDirectory", "Write", "read_index", "read_pieces", "write_pieces"]

Write: TypeAlias = Callable[[npt.NDArray[Any]], None]

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

    path: str
    is_local: bool

    @classmethod
    def create(cls, below: str) -> SpillDirectory:
        """Make a fresh directory that only this user can read.

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
                Path(below).mkdir(parents=True, exist_ok=True)
                return cls(tempfile.mkdtemp(prefix="tensorstate-", dir=Path(below).resolve()), True)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{below} cannot hold spill files ({error.strerror}): "
                    "pass spill, a directory that can be written",
                ) from error
        directory = cls(f"{below.rstrip('/')}/tensorstate-{uuid.uuid4().hex}", False)
        files, root = directory._files()
        files.makedirs(root, exist_ok=True)
        return directory

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
                with open(path, "xb", buffering=0) as file:
                    yield lambda array: _write_all(file, array)
                path.replace(Path(self.path, name))
            else:
                files, root = self._files()
                with files.open(f"{root}/{draft}", "wb") as file:
                    yield lambda array: file.write(_bytes_of(array)) and None
                files.mv(f"{root}/{draft}", f"{root}/{name}")
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise OSError(
                error.errno,
                f"the disk of the spill directory {self.path} is full: free some space, "
                "pass spill, a directory on a larger disk, or raise memory_limit",
            ) from error

    def exists(self, name: str) -> bool:
        """Whether a file is complete."""
        if self.is_local:
            return Path(self.path, name).exists()
        files, root = self._files()
        return bool(files.exists(f"{root}/{name}"))

    def read(self, name: str, start: int, into: U8Array) -> None:
        """Fill an array with the bytes of a file from `start` on; from its end, if negative.

        Parameters
        ----------
        name : str
            Name within the directory.
        start : int
            Where to begin.
        into : (bytes,) uint8
            Filled.

        Raises
        ------
        OSError
            If the file is not there, or shorter.
        """
        try:
            self._read(name, start, into)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                errno.ENOENT,
                f"spill file {name} is not in {self.path}: "
                "pass spill, a directory or URL that all workers reach",
            ) from error

    def _read(self, name: str, start: int, into: U8Array) -> None:
        if self.is_local:
            with open(Path(self.path, name), "rb", buffering=0) as file:
                file.seek(start, os.SEEK_SET if start >= 0 else os.SEEK_END)
                done = 0
                while done < len(into):
                    count = file.readinto(into.data[done:])
                    if not count:
                        raise OSError(f"spill file {file.name} ended early: count again")
                    done += count
            return
        files, root = self._files()
        stop = None if start < 0 else start + len(into)
        content = files.cat_file(f"{root}/{name}", start=start, end=stop)
        into[:] = np.frombuffer(content, np.uint8)[: len(into)]

    def remove(self) -> None:
        """Remove the directory; tasks that are still running fail when they next write."""
        if self.is_local:
            gone = f"{self.path}-removed"
            with contextlib.suppress(OSError):
                # Nothing can be created below a name that is gone: what is there stays all.
                Path(self.path).rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
            return
        files, root = self._files()
        with contextlib.suppress(FileNotFoundError):
            files.rm(root, recursive=True)


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _write_all(file: Any, array: npt.NDArray[Any]) -> None:
    content = _bytes_of(array)
    while content:
        content = content[file.write(content) :]


def write_pieces(
    directory: SpillDirectory, name: str, pieces: Sequence[Piece], bits: int, units: int
) -> None:
    """Write the pieces of a block as one spill file.

    Parameters
    ----------
    directory : SpillDirectory
        Where.
    name : str
        Name of the file.
    pieces : sequence of Piece
        In the order of their rows, with ``2**bits`` partitions.
    bits : int
        How many.
    units : int
        How many ranges of partitions there are; a power of two.
    """
    step = (1 << bits) // units
    index = np.zeros((units + 1, 2), np.int64)
    with directory.writing(name) as write:
        for unit in range(units):
            size = keys = 0
            for piece in pieces:
                part = piece.select(unit * step, (unit + 1) * step)
                if len(part.keys):
                    size += _write_piece(write, part)
                    keys += len(part.keys)
            index[unit + 1] = index[unit] + (size, keys)
        write(index)


def _write_piece(write: Write, piece: Piece) -> int:
    chunks, partitions = piece.starts.shape
    facts = np.array([chunks, len(piece.keys), piece.counts is not None, partitions - 1])
    # Units are short, and so it counts how often a file is written.
    arrays = [np.concatenate([facts, piece.add, piece.starts.ravel()]), piece.keys]
    if piece.counts is not None:
        arrays.append(piece.counts)
    rows = np.zeros(piece.rows.nbytes + -piece.rows.nbytes % 8, np.uint8)
    rows[: piece.rows.nbytes] = piece.rows.view(np.uint8)
    for array in (arrays := [*arrays, rows]):
        write(array)
    return sum(array.nbytes for array in arrays)


def read_index(directory: SpillDirectory, name: str, units: int) -> I64Array:
    """Return the index of a spill file: (units + 1, 2) int64, bytes and keys before each unit."""
    content = np.empty((units + 1) * 16, np.uint8)
    directory.read(name, -len(content), content)
    return content.view(np.int64).reshape(units + 1, 2)


def read_pieces(content: U8Array, words: int) -> list[Piece]:
    """Return the pieces of one unit.

    Parameters
    ----------
    content : (bytes,) uint8
        The unit, aligned to eight bytes.
    words : int
        Words of a key.

    Returns
    -------
    list of Piece
        Arrays that share the memory of `content`.
    """
    pieces = []
    place = 0

    def take(count: int, dtype: Any) -> Any:
        nonlocal place
        stop = place + count * np.dtype(dtype).itemsize
        found = content[place:stop].view(dtype)
        place = stop + -stop % 8
        return found

    while place < len(content):
        chunks, size, counted, partitions = take(4, np.int64).tolist()
        add = take(chunks, np.int64)
        starts = take(chunks * (partitions + 1), np.int64).reshape(chunks, partitions + 1)
        keys = take(size * words, np.uint64)
        counts = take(size, np.int64) if counted else None
        rows = take(size, np.int64 if counted else np.uint16)
        pieces.append(Piece(keys if words == 1 else keys.reshape(-1, 2), counts, rows, starts, add))
    return pieces
