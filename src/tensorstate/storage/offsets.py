"""Which rows of a part each instance has.

Either all instances of a layer have the same number of positions, or they differ. Then each part
keeps beside its states where the rows of each instance end::

    part-<writer>/offsets      int64 (instances,): how many rows there are up to its last one

The attribute ``offsets`` of the states tells how many of them are committed. It is written in one
piece of metadata with ``rows``, after the offsets, so that a reader trusts only what was written;
so are the digests of their chunks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.storage import StorePath

from tensorstate.nodes import DamagedMetadataError, digest_of, read_array
from tensorstate.storage.arrays import (
    DamagedChunkError,
    check_backed,
    endless,
    read_found,
    with_rows,
)
from tensorstate.storage.digests import ChunkDigests, DigestsWriter

__all__ = ["EqualLengths", "Extents", "OffsetsWriter", "StoredOffsets", "divide"]

_FEW_EMPTY = 1 << 24
"""So many instances without rows take little memory, even if nothing of them is there."""


def divide(lengths: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Divide instances of these lengths into groups of at most so many rows.

    An instance that has more is a group by itself.

    Examples
    --------
    >>> [*divide(np.array([3, 2, 0, 9, 1]), 5)]
    [slice(0, 3, None), slice(3, 4, None), slice(4, 5, None)]
    """
    ends = np.cumsum(lengths)
    begin = held = 0
    while begin < len(ends):
        end = max(int(np.searchsorted(ends, held + most, side="right")), begin + 1)
        yield slice(begin, end)
        begin, held = end, int(ends[end - 1])


class Extents(Protocol):
    """Which rows each instance of a part has."""

    def __len__(self) -> int:
        """Return the number of instances."""

    def rows_of_first(self, instances: int) -> int:
        """Return how many rows the first so many instances have together."""

    def holding(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first and the last instance that have some of these rows."""

    def bounds(self, instances: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return from which row on, and up to which other, instances have theirs.

        Parameters
        ----------
        instances : (n,) int64
            Numbers within the part, ascending; they may repeat.

        Returns
        -------
        starts, stops : (n,) int64
            Row numbers within the part.
        """


@dataclass(frozen=True)
class EqualLengths:
    """The rows of instances that all have the same number of them; see `Extents`.

    Attributes
    ----------
    positions : int
        Rows of an instance.
    rows : int
        Rows of the part.
    """

    positions: int
    rows: int

    def __len__(self) -> int:
        return self.rows // self.positions

    def rows_of_first(self, instances: int) -> int:
        """Return how many rows the first so many instances have together."""
        return instances * self.positions

    def holding(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first and the last instance that have some of these rows."""
        return start // self.positions, (stop - 1) // self.positions

    def bounds(self, instances: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return from which row on, and up to which other, instances have theirs."""
        starts = instances * self.positions
        return starts, starts + self.positions


class StoredOffsets:
    """The rows of instances that differ in length, read from the store; see `Extents`.

    Only the chunks of offsets that hold the instances asked for are read.

    Parameters
    ----------
    states : zarr.Array
        The states of the part, beside which the offsets are.
    attributes : mapping
        Of the states: how many rows and offsets are committed.
    where : str
        Names run, layer and part in an error.

    Raises
    ------
    ValueError
        When they are read, if there is no such array.
    DamagedChunkError
        When they are read, if a chunk is missing or damaged.
    """

    def __init__(self, states: zarr.Array[Any], attributes: Mapping[str, Any], where: str) -> None:
        self._path = _beside(states)
        self._attributes = attributes
        self._rows: int = attributes["rows"]
        self._committed: int = attributes["offsets"]
        self._instances: int = self._committed
        self._where = where
        self._array: zarr.Array[Any] | None = None
        self._digests: ChunkDigests | None = None

    def __len__(self) -> int:
        return self._instances

    def first(self, instances: int) -> StoredOffsets:
        """Return the extents of the first instances only."""
        extents = copy.copy(self)
        extents._instances = instances
        return extents

    def check_backed(self) -> None:
        """Raise ValueError if far more instances are claimed than there can be."""
        # Every instance has a row, or is one of few: else there is a look at what is stored.
        if self._committed > self._rows + _FEW_EMPTY:
            check_backed(self._open(), self._committed, f"{self._where}, offsets")

    def digests(self) -> ChunkDigests | None:
        """Return the digests of the chunks of offsets; None if an earlier version stored them."""
        self._open()
        return self._digests

    def rows_of_first(self, instances: int) -> int:
        """Return how many rows the first so many instances have together."""
        if not instances:
            return 0
        array = self._open()
        chunk, place = divmod(instances - 1, array.chunks[0])
        return int(self._read(array, chunk)[place])

    def holding(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first and the last instance that have some of these rows."""
        return self._instance_at(start), self._instance_at(stop - 1)

    def _instance_at(self, row: int) -> int:
        """Return the instance that has a row: the first one that ends behind it."""
        array = self._open()
        length = array.chunks[0]
        low, high = 0, (self._instances - 1) // length
        while low < high:
            middle = (low + high) // 2
            if self.rows_of_first((middle + 1) * length) > row:
                high = middle
            else:
                low = middle + 1
        return low * length + int(np.searchsorted(self._read(array, low), row, side="right"))

    def bounds(self, instances: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return from which row on, and up to which other, instances have theirs."""
        starts, stops = np.empty_like(instances), np.empty_like(instances)
        if not len(instances):
            return starts, stops
        array = self._open()
        length = array.chunks[0]
        done = last = before = 0
        while done < len(instances):
            chunk = int(instances[done]) // length
            end = int(np.searchsorted(instances, (chunk + 1) * length))
            if chunk != last:
                # Where the first of them begins is told by the chunk before, which was not read.
                first_of_chunk = int(instances[done]) == chunk * length
                before = self.rows_of_first(chunk * length) if first_of_chunk else 0
            edges = np.append(before, self._read(array, chunk))
            places = instances[done:end] - chunk * length
            starts[done:end], stops[done:end] = edges[places], edges[places + 1]
            done, last, before = end, chunk + 1, int(edges[-1])
        return starts, stops

    def damage(self) -> Iterator[tuple[range, str]]:
        """Yield instances whose rows nobody can find, as offsets cannot be read, and why."""
        try:
            array = self._open()
        except ValueError as error:
            yield range(self._instances), str(error)
            return
        length = array.chunks[0]
        for first in range(0, self._instances, length):
            try:
                self._read(array, first // length)
            except DamagedChunkError as error:
                # The instance after them begins where the last one of them ends.
                yield range(first, min(first + length + 1, self._instances)), str(error)

    def _open(self) -> zarr.Array[Any]:
        if self._array is None:
            array = _open_offsets(self._path, self._where)
            if array.ndim != 1 or array.dtype != np.int64 or array.shape[0] < self._committed:
                raise DamagedMetadataError(
                    f"{self._where} has offsets of {array.dtype} and shape {array.shape}, not "
                    f"int64 of {self._committed} instances: the run is damaged"
                )
            self._digests = ChunkDigests.of(
                array, self._attributes, "offsets_digests", self._committed, self._where
            )
            self._array = array
        return self._array

    def _read(self, array: zarr.Array[Any], chunk: int) -> NDArray[np.int64]:
        """Return the committed offsets in a chunk."""
        start = chunk * array.chunks[0]
        what = f"{self._where}, chunk {chunk} of the offsets (instances from {start})"
        try:
            # All that is committed, also where only the first instances are asked for.
            stop = min(start + array.chunks[0], self._committed)
            ends, found = read_found(array, start, stop)
            if array.metadata.encode_chunk_key((chunk,)) not in found:
                raise DamagedChunkError(f"{what} is missing from the store: what it told is lost")
            if self._digests is not None:
                self._digests.check(chunk, ends)
            self._check_order(ends, is_last=start + len(ends) == self._committed)
        except (ValueError, RuntimeError) as error:
            raise DamagedChunkError(f"{what} is damaged: {error}; what it told is lost") from error
        return ends[: self._instances - start]

    def _check_order(self, ends: NDArray[np.int64], is_last: bool) -> None:
        rising = ends[0] >= 0 and ends[-1] <= self._rows and (ends[1:] >= ends[:-1]).all()
        if not rising or (is_last and ends[-1] != self._rows):
            raise ValueError(f"its instances do not follow each other up to row {self._rows}")


class OffsetsWriter:
    """Appends where instances end, ahead of the commit of their rows.

    Parameters
    ----------
    states : zarr.Array
        The states of the part, beside which the offsets are.
    where : str
        Names run, layer and part in an error.

    Attributes
    ----------
    chunk_length : int
        Instances in a chunk of offsets.
    waiting : int
        Instances whose ends are not stored yet.
    """

    def __init__(self, states: zarr.Array[Any], where: str) -> None:
        self._array = _open_offsets(_beside(states), where)
        self._where = where
        self._digests: DigestsWriter | None = None
        self._endless = endless(self._array)
        self._chunk = np.zeros(self._array.chunks, np.int64)
        self.chunk_length = len(self._chunk)
        self._pending: list[NDArray[np.int64]] = []
        self._stored = self._rows = self._end = 0
        self.waiting = 0

    def append(self, lengths: ArrayLike) -> None:
        """Take the numbers of rows of the next instances, (n,)."""
        ends = self._end + np.cumsum(lengths, dtype=np.int64)
        if len(ends):
            self._pending.append(ends)
            self._end = int(ends[-1])
            self.waiting += len(ends)

    def store(self, rows: int) -> tuple[int, int]:
        """Store the ends of all instances that are within the first rows.

        Returns
        -------
        instances, rows : int
            How many instances are stored now, and how many rows they have.
        """
        ends = np.concatenate([np.empty(0, np.int64), *self._pending])
        within = int(np.searchsorted(ends, rows, side="right"))
        if within:
            self._write(ends[:within])
            self._rows = int(ends[within - 1])
        self._pending = [ends[within:]]
        self.waiting -= within
        return self._stored, self._rows

    def attributes(self) -> dict[str, Any]:
        """Return the attributes that commit what is stored."""
        if self._digests is None:
            return {"offsets": self._stored}
        fill = self._stored % self.chunk_length
        self._digests.commit(self._stored, digest_of(self._chunk[:fill]) if fill else b"")
        return {"offsets": self._stored, "offsets_digests": self._digests.attribute()}

    def go_on_after(self, stored: StoredOffsets, instances: int) -> None:
        """Go on after the first so many of the instances that are stored."""
        self._rows = self._end = stored.rows_of_first(instances)
        self._pending, self.waiting = [], 0
        self._stored = instances
        fill = instances % self.chunk_length
        self._chunk[:fill] = stored.bounds(np.arange(instances - fill, instances))[1]
        digests = stored.digests()
        if digests is not None:
            last = digest_of(self._chunk[:fill]) if fill else b""
            try:
                self._digests = DigestsWriter(digests, instances, last)
            except ValueError as error:
                raise DamagedChunkError(f"{self._where} cannot go on: {error}") from error

    def drop_others(self) -> None:
        """Drop those after them, which are not committed any more."""
        if self._stored < self._array.shape[0]:
            self._array.resize((self._stored,))

    def _write(self, ends: NDArray[np.int64]) -> None:
        taken = 0
        while taken < len(ends):
            fill = self._stored % self.chunk_length
            n = min(len(ends) - taken, self.chunk_length - fill)
            self._chunk[fill : fill + n] = ends[taken : taken + n]
            self._chunk[fill + n :] = 0
            start = self._stored - fill
            self._endless[start : start + self.chunk_length] = self._chunk
            self._stored += n
            if self._digests is not None and fill + n == self.chunk_length:
                self._digests.add(self._chunk)
            taken += n
        # For readers that know nothing of what is committed: none of ours trusts the shape.
        self._array = with_rows(self._array, self._stored).update_attributes({})


def _open_offsets(path: StorePath, where: str) -> zarr.Array[Any]:
    array = read_array(path)
    if array is None:
        raise DamagedMetadataError(
            f"{where} has no array 'offsets', which tells its instances apart: the run is damaged"
        )
    return array


def _beside(states: zarr.Array[Any]) -> StorePath:
    """Return where the offsets of a part are."""
    folder = states.store_path.path.rpartition("/")[0]
    return StorePath(states.store_path.store, f"{folder}/offsets")
