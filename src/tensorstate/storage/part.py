"""What one writer committed: rows, read from the chunks that hold them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from reprlib import repr as brief
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from tensorstate.counting.sources import is_in_memory
from tensorstate.nodes import (
    MOST_LENGTH,
    DamagedMetadataError,
    check_checksum,
    is_whole_number,
    read_array,
)
from tensorstate.storage.arrays import DamagedChunkError, check_backed, read_found
from tensorstate.storage.chunks import LocalChunks
from tensorstate.storage.counted import CountedRows
from tensorstate.storage.digests import ChunkDigests
from tensorstate.storage.offsets import EqualLengths, Extents, StoredOffsets

__all__ = ["PartReader"]

_LOST = "what was stored there is lost, and 'tensorstate verify' lists all that is"


class PartReader:
    """The committed rows of a part, as an array that is read when it is sliced.

    Parameters
    ----------
    array : zarr.Array of uint8, shape (at least rows, W)
        The part's states.
    where : str
        Names run, layer and part in an error.

    Attributes
    ----------
    shape : (int, int)
        Committed rows when the reader was made, and bytes W of a row.
    uuid : str
        What tells these rows from all others; empty if the store does not say.
    first_instance : int
        The number of the instance that row 0 belongs to.
    instances : int or None
        How many instances all layers of this part had committed; None for a part whose writer
        wrote the run alone, and has that number in the run's attributes.
    counted : CountedRows
        The first rows, if they were counted while they were captured; they cannot be read.
    digests : ChunkDigests or None
        What chunks that are read are compared with; None if an earlier version wrote the part.

    Raises
    ------
    ValueError
        If the metadata are damaged.
    DamagedChunkError
        When rows are read whose chunk is missing or damaged, is not the one that was committed, or
        was dropped: zeros are never made up.
    """

    def __init__(self, array: zarr.Array[Any], where: str) -> None:
        self._array = array
        self._where = where
        # As they are now: a writer of this process may change them.
        self.attributes: dict[str, Any] = array.attrs.asdict()
        attributes = self.attributes
        rows = attributes.get("rows")
        if array.ndim != 2 or array.dtype != np.uint8:
            raise ValueError(
                f"{where} holds {array.dtype} of shape {array.shape}, not (rows, W) uint8"
            )
        if not is_whole_number(rows) or rows > array.shape[0]:
            raise DamagedMetadataError(
                f"{where} says that {brief(rows)} rows are committed, but has {array.shape[0]}: "
                "its metadata is damaged"
            )
        self.shape = (rows, array.shape[1])
        self._local = LocalChunks.of(array)
        self.uuid = str(attributes.get("uuid") or "")
        self.first_instance = self._number("first_instance", 0)
        self.instances = self._number("instances", None)
        self.counted = CountedRows.of(array, attributes, where)
        if self.counted.rows > rows:
            raise DamagedMetadataError(
                f"{where} says that {self.counted.rows} rows are counted, but {rows} are "
                "committed: its metadata is damaged"
            )
        self._offsets = self._number("offsets", None)
        self.digests = ChunkDigests.of(array, attributes, "digests", rows, where)
        check_checksum("", attributes, where)

    def check_backed(self, positions: int | None) -> None:
        """Raise ValueError if far more rows or instances are claimed than there can be."""
        check_backed(self._array, len(self), self._where, dropped=self.counted.rows)
        extents = self.extents(positions)
        if isinstance(extents, StoredOffsets):
            extents.check_backed()

    dtype = np.dtype(np.uint8)
    ndim = 2

    @property
    def chunks(self) -> tuple[int, ...]:
        """Rows and bytes of a chunk."""
        return self._array.chunks

    @property
    def in_memory(self) -> bool:
        """Whether the rows live in this process only."""
        return is_in_memory(self._array.store)

    @property
    def is_read_by_chunk(self) -> bool:
        """Whether one chunk at a time is read as fast as many."""
        return self._local is not None

    def extents(self, positions: int | None) -> Extents:
        """Return which rows each instance has.

        Parameters
        ----------
        positions : int or None
            Rows of an instance; None if instances differ in them.

        Raises
        ------
        ValueError
            If they differ, and the part does not say how many instances it has.
        """
        if positions is not None:
            return EqualLengths(positions, len(self))
        if self._offsets is None:
            raise DamagedMetadataError(
                f"{self._where} does not say how many instances its rows belong to: "
                "its metadata is damaged"
            )
        return StoredOffsets(self._array, self.attributes, self._where).first(self._offsets)

    def first(self, instances: int, positions: int | None) -> PartReader:
        """Return a reader of the first instances only, or of all if there are no more.

        What was counted cannot be taken apart again, and stays.
        """
        extents = self.extents(positions)
        if instances >= len(extents):
            return self
        return self._of(max(extents.rows_of_first(instances), self.counted.rows), instances)

    def _of(self, rows: int, instances: int | None) -> PartReader:
        reader = copy.copy(self)
        reader.shape = (rows, self.shape[1])
        reader._offsets = instances
        return reader

    def is_current(self) -> bool:
        """Whether the store still holds these rows: not reset, shortened or overwritten."""
        return self.reopened() is not None

    def reopened(self) -> PartReader | None:
        """Return a reader of the same rows, as the store holds them now; None if they are gone."""
        try:
            array = read_array(self._array.store_path)
            stored = None if array is None else PartReader(array, self._where)
        except ValueError:
            return None
        if stored is None:
            return None
        same = stored.uuid == self.uuid and len(stored) >= len(self)
        return stored._of(len(self), self._offsets) if same else None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"a part is read in slices of step 1, not {step}")
        if stop <= start:
            return np.empty((0, self.shape[1]), np.uint8)
        if self._local is None:
            return self._read_through_zarr(start, stop)
        for chunk, _, _ in self._chunks_of(start, stop):
            # Before there is room for them all: metadata may claim any number.
            if not self._local.has(chunk):
                raise self._missing(chunk, self._local.key(chunk))
        out = np.empty((stop - start, self.shape[1]), np.uint8)
        room, stored = self._local.rooms()
        for chunk, begin, end in self._chunks_of(start, stop):
            place = out[begin - start : end - start]
            is_whole = len(place) == self.chunks[0]
            found = self._load(self._local, chunk, begin, end, place if is_whole else room, stored)
            if not (is_whole and np.may_share_memory(found, place)):
                place[:] = found
        return out

    def read_batches(
        self, start: int, stop: int, at_once: int, kept: dict[Any, Any] | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Read rows in the same memory again and again, where that can be: chunk by chunk.

        Parameters
        ----------
        start, stop : int
            Row numbers, among the committed rows.
        at_once : int
            How many rows are read at once where chunks are not read one by one: from stores
            that take their time to answer.
        kept : dict, optional
            Where memory is kept between calls by one thread, one after the other.

        Yields
        ------
        (n, W) uint8
            The next rows, until the next ones are asked for.

        Raises
        ------
        IndexError
            If there are no such rows.
        DamagedChunkError
            As for a slice.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"{self._where} has {len(self)} rows, not the rows {start} to {stop}")
        if self._local is None:
            for begin in range(start, stop, at_once):
                yield self[begin : min(begin + at_once, stop)]
            return
        room, stored = self._local.rooms(kept)
        for chunk, begin, end in self._chunks_of(start, stop):
            yield self._load(self._local, chunk, begin, end, room, stored, is_hot=True)

    def _number(self, name: str, default: Any) -> Any:
        """Return an attribute that is a number of instances."""
        value = self.attributes.get(name, default)
        if value is not default and not (is_whole_number(value) and value <= MOST_LENGTH):
            raise DamagedMetadataError(
                f"{self._where} has {brief(value)} for {name}, which is no number of instances: "
                "its metadata is damaged"
            )
        return value

    def _chunks_of(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the number of each chunk that holds rows, and between which rows it does."""
        length = self.chunks[0]
        for chunk in range(start // length, -(-stop // length)):
            yield chunk, max(start, chunk * length), min(stop, (chunk + 1) * length)

    def _load(
        self,
        local: LocalChunks,
        chunk: int,
        begin: int,
        end: int,
        room: NDArray[np.uint8],
        stored: NDArray[np.uint8],
        is_hot: bool = False,
    ) -> NDArray[np.uint8]:
        """Return rows of a chunk, which is read into `room` or `stored`."""
        try:
            if self.digests is None:
                rows = local.read(chunk, room, stored)
            elif is_hot:
                size = len(self.digests.rows_of(chunk)) * self.shape[1]
                rows, digest = local.read_digested(chunk, room, stored, size)
                self.digests.compare(chunk, digest)
            else:
                rows = local.read(chunk, room, stored)
                self.digests.check(chunk, rows)
        except FileNotFoundError:
            raise self._missing(chunk, local.key(chunk)) from None
        except (ValueError, RuntimeError) as error:
            raise self._damaged(chunk, begin, end, error) from error
        first = chunk * self.chunks[0]
        return rows[begin - first : end - first]

    def _read_through_zarr(self, start: int, stop: int) -> NDArray[np.uint8]:
        chunks = [*self._chunks_of(start, stop)]
        low, high = start, stop
        if self.digests is not None:
            # Chunks are compared as a whole, and Zarr reads them as a whole anyway.
            low = self.digests.rows_of(chunks[0][0]).start
            high = self.digests.rows_of(chunks[-1][0]).stop
        try:
            rows, found = read_found(self._array, low, high)
            for chunk, _, _ in chunks:
                # Zarr reads a missing chunk as zeros: "no neuron fired", which nobody recorded.
                key = self._array.metadata.encode_chunk_key((chunk, 0))
                if key not in found:
                    raise self._missing(chunk, key)
            if self.digests is not None:
                for chunk, _, _ in chunks:
                    self.digests.check(chunk, rows[chunk * self.chunks[0] - low :])
        except (ValueError, RuntimeError) as error:
            if len(chunks) > 1:
                # One by one, to tell which chunk it is.
                return np.concatenate([self[begin:end] for _, begin, end in chunks])
            raise self._damaged(chunks[0][0], start, stop, error) from error
        return rows[start - low : stop - low]

    def _missing(self, chunk: int, key: str) -> DamagedChunkError:
        return DamagedChunkError(
            f"{self._where}, chunk {chunk} (rows from {chunk * self.chunks[0]}) is missing "
            f"from the store ({key}); {_LOST}"
        )

    def _damaged(self, chunk: int, start: int, stop: int, error: Exception) -> DamagedChunkError:
        gone = _LOST if self.is_current() else "the part was reset or overwritten: open it again"
        return DamagedChunkError(
            f"{self._where}, chunk {chunk} (rows {start} to {stop - 1}) is damaged: {error}; {gone}"
        )
