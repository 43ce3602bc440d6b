"""Counting some instances, or each instance for the label that it has, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import dask
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tensorstate.counting import StateHistogram, count_states
from tensorstate.counting.blocks import Counted, count_block, merged, partition_bits
from tensorstate.storage.part import PartReader

__all__ = ["Label", "count_by_label", "count_instances", "label_codes", "select"]

Label: TypeAlias = int | str | bool | float | bytes

# Rows that are gathered at once: much, to pay for a task, and little beside a usual memory limit.
BLOCK_BYTES = 32 << 20
BLOCK_ROWS = 1 << 21


@dataclass(frozen=True)
class SelectedRows:
    """The rows that some instances have in one chunk, as an array that is read when it is sliced.

    Attributes
    ----------
    part : PartReader
        Where the rows are.
    first : int
        Row number in the layer of the first row of the part.
    start, stop : int
        Row numbers in the layer between which rows are taken: those of the chunk.
    instances : (n,) int64
        Ascending instance numbers; the rows of one that occurs twice are there twice.
    positions : int
        Rows of an instance.
    """

    part: PartReader
    first: int
    start: int
    stop: int
    instances: NDArray[np.int64]
    positions: int

    dtype = np.dtype(np.uint8)
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and bytes of a row."""
        return int(self.lengths().sum()), self.part.shape[1]

    @property
    def chunks(self) -> tuple[int, int]:
        """Rows and bytes that are read together: all of them."""
        return self.shape

    def __len__(self) -> int:
        return self.shape[0]

    def lengths(self) -> NDArray[np.int64]:
        """Return how many rows of each instance are in the chunk, (n,) int64."""
        starts = np.maximum(self.instances * self.positions, self.start)
        return np.minimum((self.instances + 1) * self.positions, self.stop) - starts

    def layer_rows(self) -> NDArray[np.int64]:
        """Return the row numbers in the layer, (n,) int64."""
        rows = self.instances[:, None] * self.positions + np.arange(self.positions)
        return rows[(rows >= self.start) & (rows < self.stop)]

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        numbers = self.layer_rows()[rows]
        if not len(numbers):
            return np.empty((0, self.part.shape[1]), np.uint8)
        low, high = int(numbers.min()), int(numbers.max())
        states = self.part[low - self.first : high - self.first + 1]
        return states if _is_range(numbers) else states[numbers - low]


def _is_range(numbers: NDArray[np.int64]) -> bool:
    return bool((np.diff(numbers) == 1).all())


def select(
    parts: Sequence[PartReader], instances: NDArray[np.int64], positions: int
) -> list[SelectedRows]:
    """Find what instances have in each chunk; chunks without any of their rows are left out.

    Parameters
    ----------
    parts : sequence of PartReader
        The parts of the layer.
    instances : (n,) int64
        Instance numbers in any order; one that occurs twice is selected twice.
    positions : int
        Rows of an instance.

    Returns
    -------
    list of SelectedRows
        In the order of the rows in the layer. A chunk comes twice only where instances that
        occur more than once are more than a block.
    """
    return list(_select(parts, np.sort(instances), positions))


def _select(
    parts: Sequence[PartReader], instances: NDArray[np.int64], positions: int
) -> Iterator[SelectedRows]:
    first = 0
    for part in parts:
        end = first + len(part)
        start = first
        while start < end:
            # Go to the chunk where the next of the instances begins, or goes on.
            index = int(np.searchsorted(instances, start // positions))
            if index == len(instances):
                return
            start = max(start, int(instances[index]) * positions)
            if start >= end:
                break
            chunk = (start - first) // part.chunks[0]
            stop = min(first + (chunk + 1) * part.chunks[0], end)
            last = int(np.searchsorted(instances, -(-stop // positions)))
            most = max(max(part.chunks[0], BLOCK_ROWS) // min(positions, part.chunks[0]), 1)
            for begin in range(index, last, most):
                some = instances[begin : min(begin + most, last)]
                yield SelectedRows(part, first, start, stop, some, positions)
            start = stop
        first = end


def count_instances(
    parts: Sequence[PartReader], instances: NDArray[np.int64], positions: int, **limits: Any
) -> StateHistogram:
    """Count the states of some instances, reading only the chunks that hold them.

    Parameters
    ----------
    parts, instances, positions
        As for `select`.
    **limits
        `memory_limit` and `spill`, as for `count_states`.

    Returns
    -------
    StateHistogram
        First rows are the smallest row numbers in the layer.
    """
    selected = select(parts, instances, positions)
    if not selected:
        return count_states(np.empty((0, parts[0].shape[1]), np.uint8))
    histogram = count_states(selected, **limits)
    starts = np.cumsum([0, *(len(rows) for rows in selected)])
    order = np.argsort(histogram.first_rows)
    places = histogram.first_rows[order]
    edges = np.searchsorted(places, starts)
    first_rows = np.empty_like(places)
    for rows, start, begin, end in zip(selected, starts[:-1], edges[:-1], edges[1:], strict=True):
        if begin < end:
            first_rows[order[begin:end]] = rows.layer_rows()[places[begin:end] - start]
    return histogram.with_first_rows(first_rows)


def label_codes(labels: ArrayLike, instances: int) -> tuple[list[Label], NDArray[np.int64]]:
    """Return the labels that occur, ascending, and for each instance which of them it has.

    Parameters
    ----------
    labels : array_like of int, str or bool, shape (instances,)
        A label for each instance.
    instances : int
        How many there are.

    Raises
    ------
    TypeError
        If labels are of another type, or of several.
    ValueError
        If there is not one for each instance, or one is NaN.

    Examples
    --------
    >>> label_codes(["dog", "cat", "dog"], 3)[0]
    ['cat', 'dog']
    """
    # A list is not made into an array at once: NumPy would write NaN among strings as "nan".
    array = np.asarray(labels, None if hasattr(labels, "__array__") else object)
    if array.ndim != 1:
        raise ValueError(
            f"labels have one axis, not the shape {array.shape}: give each instance one"
        )
    if len(array) != instances:
        raise ValueError(
            f"{len(array)} labels do not fit {instances} instances: give each instance one"
        )
    missing = array[pd.isna(array)]
    if len(missing):
        raise ValueError(
            f"{len(missing)} of the labels are {missing[0]}: give each instance a label, "
            "or leave out what has none with `instances`"
        )
    if array.dtype.kind == "O" and len({type(value) for value in array}) <= 1:
        array = np.asarray(array.tolist())
    if array.dtype.kind not in "iubfUS":
        raise TypeError(f"labels are all whole numbers, strings or bools, not {array.dtype}")
    values, codes = np.unique(array, return_inverse=True)
    return values.tolist(), codes.astype(np.int64)


def count_by_label(
    parts: Sequence[PartReader],
    instances: NDArray[np.int64],
    positions: int,
    labels: list[Label],
    codes: NDArray[np.int64],
) -> dict[Label, StateHistogram]:
    """Count the states of instances for each label, reading each chunk that holds them once.

    Parameters
    ----------
    parts, instances, positions
        As for `select`.
    labels, codes
        What `label_codes` returns, for all instances of the layer.

    Returns
    -------
    dict of label to StateHistogram
        In the order of `labels`, without those that no instance has. First rows are the
        smallest row numbers in the layer.
    """
    tasks = [
        dask.delayed(_count_block, pure=False)(block, [codes[rows.instances] for rows in block])
        for block in _blocks(select(parts, instances, positions))
    ]
    # Rows that only this process has are not to be looked for by another one.
    here = {"scheduler": "threads"} if any(part.in_memory for part in parts) else {}
    found: dict[int, list[StateHistogram]] = {}
    for counted in dask.compute(*tasks, **here):
        for code, histogram in counted.items():
            found.setdefault(code, []).append(histogram)
    return {labels[code]: _merged(found[code]) for code in sorted(found)}


def _blocks(selected: Iterable[SelectedRows]) -> Iterator[list[SelectedRows]]:
    """Join what is selected into blocks for one task each."""
    block: list[SelectedRows] = []
    held = 0
    for rows in selected:
        size, width = rows.shape
        if block and (held + size) > min(BLOCK_ROWS, max(BLOCK_BYTES // width, 1)):
            yield block
            block, held = [], 0
        block.append(rows)
        held += size
    if block:
        yield block


def _count_block(
    block: list[SelectedRows], codes: list[NDArray[np.int64]]
) -> dict[int, StateHistogram]:
    """Read a block, and count what belongs to each code."""
    found, places = np.unique(np.concatenate(codes), return_inverse=True)
    # NumPy sorts short integers by radix, many times faster than long ones.
    places = places.astype(np.min_scalar_type(len(found)))
    row_places = np.repeat(places, np.concatenate([rows.lengths() for rows in block]))
    states = np.concatenate([rows[:] for rows in block])
    numbers = np.concatenate([rows.layer_rows() for rows in block])
    # A stable order, so that the first row of a state is the smallest.
    order = np.argsort(row_places, kind="stable")
    ends = np.cumsum(np.bincount(row_places, minlength=len(found)))
    histograms = {}
    for code, begin, end in zip(found, [0, *ends[:-1]], ends, strict=True):
        chosen = order[begin:end]
        keys, counts, first = _count_rows(states[chosen])
        histograms[int(code)] = StateHistogram(
            keys, counts, numbers[chosen[first]], states.shape[1]
        )
    return histograms


def _count_rows(states: NDArray[np.uint8]) -> Counted:
    """Count rows (n, W) that are in memory, in the task that runs."""
    rows, width = states.shape
    return merged(count_block([states], rows, width, 0, partition_bits(rows)))


def _merged(histograms: list[StateHistogram]) -> StateHistogram:
    """Merge two by two, so that no entry is copied more than a few times."""
    while len(histograms) > 1:
        pairs = [histograms[i : i + 2] for i in range(0, len(histograms), 2)]
        histograms = [pair[0].merge(pair[1]) if len(pair) == 2 else pair[0] for pair in pairs]
    return histograms[0]
