"""Counting the states of each instance for the label that it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import dask
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tensorstate.counting import StateHistogram
from tensorstate.counting.blocks import Counted, count_block, merged, partition_bits
from tensorstate.storage import selection
from tensorstate.storage.part import PartReader
from tensorstate.storage.selection import SelectedRows, select

__all__ = ["Label", "count_by_label", "label_codes"]

Label: TypeAlias = int | str | bool | float | bytes

BLOCK_BYTES = 32 << 20
"""A task gathers no more at once, unless a chunk has more."""


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
        if block and (held + size) > min(selection.BLOCK_ROWS, max(BLOCK_BYTES // width, 1)):
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
