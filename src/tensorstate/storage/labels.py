"""Counting the states of each instance for the label that it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import TypeAlias

import dask
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tensorstate.counting import StateHistogram, plan
from tensorstate.counting.blocks import count_block
from tensorstate.counting.keys import words_per_key
from tensorstate.counting.memory import MemoryLimit, as_text, parse_limit
from tensorstate.counting.pieces import Counted, merged, partition, partition_bits
from tensorstate.counting.schedulers import find_scheduler, threads_if
from tensorstate.storage import selection
from tensorstate.storage.part import PartReader
from tensorstate.storage.selection import SelectedRows, count_nothing, count_selected, select

__all__ = ["Label", "count_by_label", "label_codes"]

Label: TypeAlias = int | str | bool | float | bytes

BLOCK_BYTES = 32 << 20
"""A task gathers no more at once, unless a chunk has more."""

ROW_COPIES = 3
"""A row is read, put into a block, and into the rows of its label."""

ROW_BYTES = 64
"""For the numbers and the label of a row, and their order."""

ENTRY_BYTES = 16
"""A count and a first row: an entry of a result without its key."""

ARRAYS_BYTES = 1024
"""What the arrays of a label in a block take, however few entries they have."""


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
    if array.dtype.kind in "US":
        values, codes = np.unique(array, return_inverse=True)
    else:
        # Many times faster for numbers; of strings it would make Python's, which take more memory.
        codes, values = pd.factorize(array, sort=True)
    return values.tolist(), codes.astype(np.int64)


def count_by_label(
    parts: Sequence[PartReader],
    instances: NDArray[np.int64],
    positions: int | None,
    labels: list[Label],
    codes: NDArray[np.int64],
    memory_limit: MemoryLimit = None,
    spill: str | PathLike[str] | None = None,
) -> dict[Label, StateHistogram]:
    """Count the states of instances for each label.

    Each chunk that holds them is read once, if what all labels may need then fits the memory
    limit. If not, the labels are counted one after the other, each within what the limit leaves
    beside the results that are in memory.

    Parameters
    ----------
    parts, instances, positions
        As for `select`.
    labels, codes
        What `label_codes` returns, for all instances of the layer.
    memory_limit, spill : optional
        As for `count_states`.

    Returns
    -------
    dict of label to StateHistogram
        In the order of `labels`, without those that no instance has. First rows are the
        smallest row numbers in the layer.

    Raises
    ------
    ValueError
        If the limit is too small for one label, or for the results.
    """
    with threads_if(any(part.in_memory for part in parts)):
        selected = select(parts, instances, positions)
        rows_of_labels = np.zeros(len(labels), np.int64)
        for rows in selected:
            np.add.at(rows_of_labels, codes[rows.instances], rows.lengths())
        most = _most_rows(selected, rows_of_labels, memory_limit)
        if most >= max((len(rows) for rows in selected), default=0):
            found = _count_together(selected, codes, most)
        else:
            chosen = (
                (code, select(parts, instances[codes[instances] == code], positions))
                for code in np.flatnonzero(rows_of_labels).tolist()
            )
            found = _count_in_turn(chosen, labels, parse_limit(memory_limit), spill)
    # The instances of a label may all be without rows.
    return {
        labels[code]: found[code] if code in found else count_nothing(parts)
        for code in np.unique(codes[instances])
    }


def _most_rows(
    selected: list[SelectedRows], rows_of_labels: NDArray[np.int64], memory_limit: MemoryLimit
) -> int:
    """Return how many rows a task may gather, if labels are counted together within the limit.

    At worst all states are different: the results of all blocks are held, and those of one
    label three more times when they are merged.
    """
    if not selected:
        return 0
    where = find_scheduler()
    width = selected[0].shape[1]
    entry = ENTRY_BYTES + 8 * words_per_key(width)
    results = entry * (rows_of_labels.sum() + 3 * rows_of_labels.max())
    arrays = sum(min(len(rows.instances), len(rows_of_labels)) for rows in selected)
    free = where.memory_limit(parse_limit(memory_limit)) - plan.PROCESS_BYTES
    free -= results + ARRAYS_BYTES * arrays
    chunk = max(rows.part.chunks[0] for rows in selected) * width
    free = free // where.threads_per_process - plan.TASK_BYTES - plan.READ_COPIES * chunk
    usual = min(selection.BLOCK_ROWS, max(BLOCK_BYTES // width, 1))
    usual = max(usual, max(len(rows) for rows in selected))
    return int(min(free // (ROW_COPIES * width + ROW_BYTES + 2 * entry), usual))


def _count_together(
    selected: list[SelectedRows], codes: NDArray[np.int64], most: int
) -> dict[int, StateHistogram]:
    """Count the rows of each code in one pass, in blocks of at most so many rows."""
    tasks = [
        dask.delayed(_count_block, pure=False)(block, [codes[rows.instances] for rows in block])
        for block in _blocks(selected, most)
    ]
    found: dict[int, list[Counted]] = {}
    for counted in dask.compute(*tasks):
        for code, entries in counted.items():
            found.setdefault(code, []).append(entries)
    return {
        code: StateHistogram(*_merged(found.pop(code)), selected[0].shape[1]) for code in [*found]
    }


def _count_in_turn(
    chosen: Iterable[tuple[int, list[SelectedRows]]],
    labels: list[Label],
    limit: int | None,
    spill: str | PathLike[str] | None,
) -> dict[int, StateHistogram]:
    """Count the rows of each code by themselves, within what earlier results leave of a limit."""
    found: dict[int, StateHistogram] = {}
    held = 0
    for code, rows in chosen:
        rest = None if limit is None else max(limit - held, 1)
        try:
            plan.plan_count(rows, rest, spill)
        except ValueError as error:
            if not held:
                raise
            raise ValueError(
                f"histograms of {len(found)} labels take {as_text(held)} of the memory limit, and "
                f"the rest is too small to count label {labels[code]!r}: raise memory_limit, or "
                "pass the instances of fewer labels at a time"
            ) from error
        histogram = found[code] = count_selected(rows, memory_limit=rest, spill=spill)
        if not histogram.is_stored:
            held += histogram.distinct * (ENTRY_BYTES + 8 * words_per_key(histogram.width))
    return found


def _blocks(selected: Iterable[SelectedRows], most: int) -> Iterator[list[SelectedRows]]:
    """Join what is selected into blocks for one task each, of at most so many rows."""
    block: list[SelectedRows] = []
    held = 0
    for rows in selected:
        size = len(rows)
        if block and held + size > most:
            yield block
            block, held = [], 0
        block.append(rows)
        held += size
    if block:
        yield block


def _count_block(block: list[SelectedRows], codes: list[NDArray[np.int64]]) -> dict[int, Counted]:
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
    counted = {}
    for code, begin, end in zip(found, [0, *ends[:-1]], ends, strict=True):
        chosen = order[begin:end]
        keys, counts, first = _count_rows(states[chosen])
        counted[int(code)] = (keys, counts, numbers[chosen[first]])
    return counted


def _count_rows(states: NDArray[np.uint8]) -> Counted:
    """Count rows (n, W) that are in memory, in the task that runs."""
    rows, width = states.shape
    return merged(count_block([states], rows, width, 0, partition_bits(rows)))


def _merged(blocks: list[Counted]) -> Counted:
    """Merge what blocks gave for one label."""
    if len(blocks) == 1:
        return blocks[0]
    bits = partition_bits(sum(len(counts) for _, counts, _ in blocks))
    return merged([partition(entries, bits) for entries in blocks])
