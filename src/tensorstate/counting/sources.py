"""What may be counted, and how it is cut into blocks of rows."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
import zarr
from fsspec.implementations.memory import MemoryFileSystem
from zarr.abc.store import Store
from zarr.storage import FsspecStore, MemoryStore

from tensorstate.counting.keys import U8Array

__all__ = ["Block", "Extent", "Span", "cut", "is_in_memory", "measure", "read", "rows_of_block"]

BLOCK_ROWS = 1 << 25
BLOCK_BYTES = 1 << 30
LEAST_ROWS = 1 << 16
MOST_BLOCKS = 1024
READ_BYTES = 16 << 20


@dataclass(frozen=True)
class Span:
    """Rows from `start` up to `stop` of something that gives rows when it is sliced.

    Attributes
    ----------
    source
        An array, a part reader, or a delayed array that is one when the task runs.
    start, stop : int
        Row numbers in the source.
    step : int
        How many rows are read at once: whole chunks, where the source has chunks.
    chunk : int
        How many rows can only be read together, from `start` on.
    """

    source: Any
    start: int
    stop: int
    step: int
    chunk: int = 1


@dataclass(frozen=True)
class Block:
    """Consecutive rows for one task.

    Attributes
    ----------
    spans : tuple of Span
        Where the rows are.
    first_row : int
        Number of the first row in all that is counted.
    """

    spans: tuple[Span, ...]
    first_row: int

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(span.stop - span.start for span in self.spans)


@dataclass(frozen=True)
class Extent:
    """What there is to count.

    Attributes
    ----------
    rows, width : int
        How many rows, and bytes W of one.
    chunk_rows : int
        Rows of the largest chunk, which can only be read as a whole; 1 if there are no chunks.
    is_read : bool
        Whether rows are read into memory of their own: those of a NumPy array are not.
    is_delayed : bool
        Whether some rows are made by tasks of Dask, which hold them until they are counted.
    """

    rows: int
    width: int
    chunk_rows: int
    is_read: bool
    is_delayed: bool


def measure(states: Any) -> Extent:
    """Check what is to be counted, and tell how much it is.

    Parameters
    ----------
    states
        A (rows, W) uint8 array or a sequence of them, as `count_states` takes them.

    Returns
    -------
    Extent

    Raises
    ------
    TypeError, ValueError
        As `count_states` raises them.
    """
    arrays = _arrays(states)
    chunks = [
        max((int(length) for length in array.chunks[0]), default=1)
        if dask.is_dask_collection(array)
        else _rows_per_chunk(array)
        for array in arrays
    ]
    return Extent(
        rows=sum(int(array.shape[0]) for array in arrays),
        width=int(arrays[0].shape[1]),
        chunk_rows=max(chunks),
        is_read=any(not isinstance(array, np.ndarray) for array in arrays),
        is_delayed=any(dask.is_dask_collection(array) for array in arrays),
    )


def rows_of_block(extent: Extent, threads: int, most_rows: int | None = None) -> int:
    """Return how many rows a block of `cut` has, where all chunks are of the same size.

    Parameters
    ----------
    extent : Extent
        What is cut.
    threads, most_rows
        As for `cut`.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> rows_of_block(measure(np.zeros((1_000_000, 1), np.uint8)), threads=4)
    250000
    """
    most = _most_rows(extent.rows, extent.width, threads, most_rows)
    return _whole_chunks(most, extent.chunk_rows, most_rows is None and not extent.is_delayed)


def cut(
    states: Any,
    threads: int,
    *,
    in_process: bool,
    most_rows: int | None = None,
    read_bytes: int | None = None,
) -> tuple[list[Block], int, int]:
    """Check what is to be counted and cut it into blocks.

    Parameters
    ----------
    states
        A (rows, W) uint8 array or a sequence of them, as `count_states` takes them.
    threads : int
        How many tasks run at once: there are enough blocks for all.
    in_process : bool
        Whether tasks run in this process, and may read what only this process has.
    most_rows : int, optional
        A block has no more rows than this, unless a chunk has.
    read_bytes : int, optional
        How much is read at once, unless a chunk has more; 16 MiB by default.

    Returns
    -------
    blocks : list of Block
        In the order of the rows.
    rows : int
        How many rows there are.
    width : int
        Bytes W of a row.

    Raises
    ------
    TypeError, ValueError
        As `count_states` raises them.
    """
    arrays = _arrays(states)
    rows, width = sum(int(array.shape[0]) for array in arrays), int(arrays[0].shape[1])
    most = _most_rows(rows, width, threads, most_rows)
    at_once = READ_BYTES if read_bytes is None else read_bytes
    # Whole chunks are more rows or fewer. With more, there are no more blocks than were wanted:
    # a small one that is left over would keep one thread busy, and the others waiting.
    exceeds = most_rows is None
    spans = (span for array in arrays for span in _spans(array, most, at_once, in_process, exceeds))
    return _join(spans, most), rows, width


def _arrays(states: Any) -> list[Any]:
    several = isinstance(states, (list, tuple))
    arrays = list(states) if several else [states]
    if not arrays:
        raise ValueError("there is nothing to count: the list of arrays is empty")
    for position, array in enumerate(arrays):
        _check(array, f"states[{position}]" if several else "states")
    widths = [int(array.shape[1]) for array in arrays]
    for position, width in enumerate(widths):
        if width != widths[0]:
            raise ValueError(
                f"states[{position}] has rows of {width} bytes and states[0] of {widths[0]}: "
                "count layers of different widths one by one"
            )
    return arrays


def read(block: Block, width: int, kept: dict[Any, Any] | None = None) -> Iterator[U8Array]:
    """Read the rows of a block, a few chunks at a time.

    A source may have the method ``read_batches(start, stop, at_once, kept)``. It yields the rows
    from `start` up to `stop`, in order and as many at once as it likes, or else `at_once`, and may
    put them where those before were: fresh memory is slow to get. What it wants to use again when
    it is called the next time, it puts into the dictionary `kept`.

    Parameters
    ----------
    block : Block
        What to read.
    width : int
        Bytes of a row.
    kept : dict, optional
        For one block after the other, by one thread: what sources keep.

    Yields
    ------
    (n, width) uint8
        To be used before the next is asked for, which may overwrite it.

    Raises
    ------
    ValueError
        If a source gives something else than the rows that it claimed to have.
    """
    kept = {} if kept is None else kept
    for span in block.spans:
        if hasattr(span.source, "read_batches"):
            yield from _read_batches(span, width, kept)
        else:
            yield from _read_slices(span, width)


def _read_batches(span: Span, width: int, kept: dict[Any, Any]) -> Iterator[U8Array]:
    start = span.start
    for rows in span.source.read_batches(span.start, span.stop, span.step, kept):
        stop = min(start + len(rows), span.stop)
        _check_rows(span.source, start, stop, width, rows)
        yield rows
        start = stop
    if start < span.stop:
        raise ValueError(
            f"rows {start} to {span.stop} of {type(span.source).__name__} did not come"
        )


def _read_slices(span: Span, width: int) -> Iterator[U8Array]:
    for start in range(span.start, span.stop, span.step):
        stop = min(start + span.step, span.stop)
        rows = np.asarray(span.source[start:stop])
        _check_rows(span.source, start, stop, width, rows)
        yield rows
        if isinstance(span.source, np.memmap):
            _release(span.source, rows)


def _check_rows(source: Any, start: int, stop: int, width: int, rows: U8Array) -> None:
    if rows.shape != (stop - start, width) or rows.dtype != np.uint8:
        raise ValueError(
            f"rows {start} to {stop} of {type(source).__name__} came back as "
            f"{rows.dtype} of the shape {rows.shape}, "
            f"not as uint8 of the shape {(stop - start, width)}"
        )


def _release(mapped: np.memmap[Any, Any], rows: U8Array) -> None:
    """Give back the memory of rows that were read from a file that is mapped for reading."""
    pages: mmap.mmap | None = getattr(mapped, "_mmap", None)
    if pages is None or mapped.mode != "r" or not hasattr(pages, "madvise"):
        return
    begins = np.frombuffer(pages, np.uint8).ctypes.data
    low, high = np.lib.array_utils.byte_bounds(rows)
    start = (low - begins) // mmap.PAGESIZE * mmap.PAGESIZE
    if 0 <= start < high - begins <= len(pages):
        pages.madvise(mmap.MADV_DONTNEED, start, high - begins - start)


def _most_rows(rows: int, width: int, threads: int, limit: int | None) -> int:
    """Return how many rows a block may have: as many blocks for each thread, and large ones."""
    most = max(min(BLOCK_ROWS, BLOCK_BYTES // width), -(-rows // MOST_BLOCKS), 1)
    blocks_per_thread = -(-rows // (most * threads))
    wanted = max(-(-rows // max(blocks_per_thread * threads, 1)), min(LEAST_ROWS, most))
    return min(wanted, limit or rows or 1)


def _whole_chunks(most: int, chunk: int, exceeds: bool) -> int:
    """Return so many rows in whole chunks: at least one, and fewer rows unless they may exceed."""
    return max(-(-most // chunk) if exceeds else most // chunk, 1) * chunk


def _check(array: Any, name: str) -> None:
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
    if shape is None or dtype is None:
        raise TypeError(
            f"{name} is a {type(array).__name__}, not an array: "
            "pass packed states as a NumPy, Zarr or Dask array of uint8"
        )
    if dtype != np.uint8:
        raise TypeError(
            f"{name} has the type {dtype}, not uint8: pack activations with compress_states first"
        )
    if len(shape) != 2:
        raise ValueError(f"{name} has the shape {tuple(shape)}, not (rows, bytes of a state)")
    if any(length != length for length in shape):
        raise ValueError(
            f"{name} is a Dask array with chunks of unknown sizes: "
            "call compute_chunk_sizes() on it first"
        )
    if shape[1] == 0:
        raise ValueError(f"{name} has rows of zero bytes: a state has at least one neuron")


def _spans(
    array: Any, most: int, read_bytes: int, in_process: bool, exceeds: bool
) -> Iterator[Span]:
    """Cut one array into spans of whole chunks: of `most` rows, or else of one chunk.

    Where chunks do not add up to `most` rows, spans have fewer, or more if they may exceed it.
    """
    rows, width = (int(length) for length in array.shape)
    if dask.is_dask_collection(array):
        whole_rows = array.rechunk({1: -1})
        chunks = whole_rows.to_delayed(optimize_graph=True)[:, 0]
        for chunk, length in zip(chunks, whole_rows.chunks[0], strict=True):
            yield Span(chunk, 0, length, max(length, 1))
        return
    if not in_process and _is_only_here(array):
        array = array[:]
    step = _rows_per_chunk(array)
    length = _whole_chunks(most, step, exceeds)
    at_once = max(read_bytes // (step * width), 1) * step
    for start in range(0, rows, length):
        stop = min(start + length, rows)
        if isinstance(array, np.ndarray):
            whole = length if getattr(array, "_mmap", None) is None else at_once
            yield Span(array[start:stop], 0, stop - start, whole)
        else:
            yield Span(array, start, stop, at_once, step)


def _rows_per_chunk(array: Any) -> int:
    """Return how many rows are best read together."""
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    return max(int(chunks[0]), 1) if chunks else 1


def _is_only_here(array: Any) -> bool:
    """Whether other processes would look in vain for an array's rows."""
    if isinstance(array, zarr.Array):
        return is_in_memory(array.store)
    return bool(getattr(array, "in_memory", False))


def is_in_memory(store: Store) -> bool:
    """Whether only this process has what is in a store."""
    if isinstance(store, FsspecStore):
        return isinstance(getattr(store.fs, "sync_fs", store.fs), MemoryFileSystem)
    return isinstance(store, MemoryStore)


def _join(spans: Iterator[Span], most: int) -> list[Block]:
    """Join small spans that follow each other into blocks of at most `most` rows."""
    blocks: list[Block] = []
    held: list[Span] = []
    first_row = held_rows = 0
    for span in spans:
        rows = span.stop - span.start
        if held and held_rows + rows > most:
            blocks.append(Block(tuple(held), first_row))
            first_row += held_rows
            held, held_rows = [], 0
        if rows:
            held.append(span)
            held_rows += rows
    if held:
        blocks.append(Block(tuple(held), first_row))
    return blocks
