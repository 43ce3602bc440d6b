"""Rows of several parts as one array, read when it is sliced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate.storage.part import PartReader

__all__ = ["PartRows", "RawStates", "instance_numbers"]


class RawStates:
    """Packed states of a layer, (rows, W) uint8, read from the store when sliced.

    Indexing gives NumPy arrays and follows NumPy: numbers, slices, integer arrays or boolean masks
    on the rows, and anything on the bytes. Only the chunks that hold the rows are read.

    Parameters
    ----------
    parts : sequence of PartReader
        The parts, in the order of their rows.
    width : int
        Bytes of a packed state.
    """

    dtype = np.dtype(np.uint8)
    ndim = 2

    def __init__(self, parts: Sequence[PartReader], width: int) -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.shape = (int(self._starts[-1]), width)

    @property
    def chunks(self) -> tuple[int, int]:
        """Rows and bytes of a chunk, the largest if parts differ: what is best read together."""
        return max((part.chunks[0] for part in self._parts), default=1), self.shape[1]

    @property
    def in_memory(self) -> bool:
        """Whether some rows live in this process only."""
        return any(part.in_memory for part in self._parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<RawStates {self.shape} uint8 in {len(self._parts)} part(s)>"

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if rows is Ellipsis:
            rows = slice(None)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._read(start, stop)[:, columns]
            rows = np.arange(start, stop, step, dtype=np.int64)
        picked = self._gather(_row_numbers(rows, len(self)))
        return picked[:, columns] if np.ndim(rows) else picked[0, columns]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("stored states cannot become an array without a copy")
        return self._read(0, len(self)).astype(dtype or self.dtype, copy=False)

    @property
    def is_read_by_chunk(self) -> bool:
        """Whether one chunk at a time is read as fast as many."""
        return all(part.is_read_by_chunk for part in self._parts)

    def read_batches(
        self, start: int, stop: int, at_once: int, kept: dict[Any, Any] | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield rows, each batch until the next is asked for; as `PartReader.read_batches`."""
        for part, begin, end in self._parts_of(start, stop):
            yield from part.read_batches(begin, end, at_once, kept)

    def _parts_of(self, start: int, stop: int) -> Iterator[tuple[PartReader, int, int]]:
        """Yield the parts that hold rows, and between which of their own rows they do."""
        for part, (first, end) in zip(self._parts, pairwise(self._starts), strict=True):
            if first < stop and start < end:
                yield part, int(max(start, first) - first), int(min(stop, end) - first)

    def _read(self, start: int, stop: int) -> NDArray[np.uint8]:
        pieces = [part[begin:end] for part, begin, end in self._parts_of(start, stop)]
        if not pieces:
            return np.empty((0, self.shape[1]), np.uint8)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _gather(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Rows by number, reading every chunk that holds one of them once."""
        if rows.dtype.kind not in "iu":
            raise IndexError(f"rows are chosen by whole numbers or a mask, not by {rows.dtype}")
        out_of_bounds = (rows < -len(self)) | (rows >= len(self))
        if out_of_bounds.any():
            raise IndexError(f"row {rows[out_of_bounds][0]} is not among {len(self)} rows")
        rows = np.where(rows < 0, rows + len(self), rows)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        out = np.empty((len(rows), self.shape[1]), np.uint8)
        done = 0
        while done < len(rows):
            start, stop = self._chunk_around(int(ascending[done]))
            end = int(np.searchsorted(ascending, stop))
            block = self._read(start, min(stop, int(ascending[end - 1]) + 1))
            out[order[done:end]] = block[ascending[done:end] - start]
            done = end
        return out

    def _chunk_around(self, row: int) -> tuple[int, int]:
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        part, first = self._parts[index], int(self._starts[index])
        chunk_rows = part.chunks[0]
        start = first + (row - first) // chunk_rows * chunk_rows
        return row, min(start + chunk_rows, first + len(part))


class PartRows:
    """Some rows of a part, as an array that is read when it is sliced.

    Parameters
    ----------
    part : PartReader
        Where the rows are.
    start, stop : int
        Row numbers in the part. To read no chunk twice, `start` is where a chunk begins, or all
        rows are in one.
    """

    dtype = np.dtype(np.uint8)
    ndim = 2

    def __init__(self, part: PartReader, start: int, stop: int) -> None:
        self._part = part
        self.start = start
        self.shape = (stop - start, part.shape[1])

    @property
    def chunks(self) -> tuple[int, ...]:
        """Rows and bytes of a chunk."""
        return self._part.chunks

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        start, stop, step = rows.indices(len(self))
        return self._part[self.start + start : self.start + stop : step]

    @property
    def is_read_by_chunk(self) -> bool:
        """Whether one chunk at a time is read as fast as many."""
        return self._part.is_read_by_chunk

    def read_batches(
        self, start: int, stop: int, at_once: int, kept: dict[Any, Any] | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield rows, each batch until the next is asked for; as `PartReader.read_batches`."""
        return self._part.read_batches(self.start + start, self.start + stop, at_once, kept)


def instance_numbers(
    index: ArrayLike, instances: int, captured: str = "the captured ones"
) -> NDArray[np.int64]:
    """Instance numbers from numbers or a boolean mask; `captured` names all of them in an error.

    Raises
    ------
    IndexError
        If a number is not among the instances, or the mask has another length.
    """
    rows = _row_numbers(index, instances, what="instance")
    if rows.dtype.kind not in "iu":
        raise IndexError(f"instances are chosen by whole numbers or a mask, not by {rows.dtype}")
    outside = (rows < -instances) | (rows >= instances)
    if outside.any():
        raise IndexError(f"instance {rows[outside][0]} is not among {captured}")
    return np.where(rows < 0, rows + instances, rows).astype(np.int64)


def _row_numbers(index: ArrayLike, length: int, what: str = "row") -> NDArray[Any]:
    numbers = np.atleast_1d(np.asarray(index))
    if numbers.size == 0:
        numbers = numbers.astype(np.int64)
    if numbers.ndim != 1:
        raise IndexError(f"{what}s are chosen along one axis, not by the shape {numbers.shape}")
    if numbers.dtype == np.bool_:
        if len(numbers) != length:
            raise IndexError(f"a mask of {len(numbers)} {what}s does not fit {length} {what}s")
        return np.flatnonzero(numbers)
    return numbers
