"""Counting some instances, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate.counting import StateHistogram, count_states
from tensorstate.storage.offsets import divide
from tensorstate.storage.part import PartReader

__all__ = [
    "BLOCK_ROWS",
    "SelectedRows",
    "count_instances",
    "count_nothing",
    "count_selected",
    "select",
]

BLOCK_ROWS = 1 << 21
"""Rows that are gathered at once: much, to pay for a task, and little beside a usual limit."""


@dataclass(frozen=True)
class SelectedRows:
    """The rows that some instances have in one chunk, as an array that is read when it is sliced.

    Attributes
    ----------
    part : PartReader
        Where the rows are.
    first : int
        Row number in the layer of the first row of the part.
    instances : (n,) int64
        Ascending instance numbers; the rows of one that occurs twice are there twice.
    starts, stops : (n,) int64
        Row numbers in the layer from which and up to which each of them has rows in the chunk.
    """

    part: PartReader
    first: int
    instances: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

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
        return self.stops - self.starts

    def layer_rows(self) -> NDArray[np.int64]:
        """Return the row numbers in the layer, (n,) int64."""
        lengths = self.lengths()
        before = np.cumsum(lengths) - lengths
        return np.repeat(self.starts - before, lengths) + np.arange(lengths.sum())

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        numbers = self.layer_rows()[rows]
        if not len(numbers):
            return np.empty((0, self.part.shape[1]), np.uint8)
        low, high = int(numbers.min()), int(numbers.max())
        states = self.part[low - self.first : high - self.first + 1]
        return states if _is_range(numbers) else states[numbers - low]

    def read_batches(
        self, start: int, stop: int, at_once: int, kept: dict[Any, Any] | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield rows, each batch until the next is asked for; as `PartReader.read_batches`."""
        numbers = self.layer_rows()[start:stop]
        if not len(numbers) or not _is_range(numbers):
            yield self[start:stop]
            return
        first = int(numbers[0]) - self.first
        yield from self.part.read_batches(first, first + len(numbers), at_once, kept)


def _is_range(numbers: NDArray[np.int64]) -> bool:
    return bool((np.diff(numbers) == 1).all())


def select(
    parts: Sequence[PartReader], instances: NDArray[np.int64], positions: int | None
) -> list[SelectedRows]:
    """Find what instances have in each chunk; chunks without any of their rows are left out.

    Parameters
    ----------
    parts : sequence of PartReader
        The parts of the layer.
    instances : (n,) int64
        Instance numbers in any order; one that occurs twice is selected twice.
    positions : int or None
        Rows of an instance; None if instances differ in them.

    Returns
    -------
    list of SelectedRows
        In the order of the rows in the layer, without instances that have none. A chunk comes
        twice only where instances that occur more than once are more than a block.
    """
    instances = np.sort(instances)
    selected: list[SelectedRows] = []
    place = row = 0
    for part in parts:
        extents = part.extents(positions)
        begin, end = np.searchsorted(instances, [place, place + len(extents)])
        starts, stops = extents.bounds(instances[begin:end] - place)
        filled = starts < stops
        whole = instances[begin:end][filled], starts[filled] + row, stops[filled] + row
        selected += _by_chunk(SelectedRows(part, row, *whole))
        place += len(extents)
        row += len(part)
    return selected


def _by_chunk(selected: SelectedRows) -> Iterator[SelectedRows]:
    """Divide what instances have in a part into what they have in each of its chunks."""
    part, first = selected.part, selected.first
    most = max(part.chunks[0], BLOCK_ROWS)
    edge = first
    while True:
        # Go to the chunk where the next of the instances begins, or goes on.
        begin = int(np.searchsorted(selected.stops, edge, side="right"))
        if begin == len(selected.stops):
            return
        edge = max(edge, int(selected.starts[begin]))
        chunk = (edge - first) // part.chunks[0]
        start, edge = edge, first + (chunk + 1) * part.chunks[0]
        end = int(np.searchsorted(selected.starts, edge))
        starts = np.maximum(selected.starts[begin:end], start)
        stops = np.minimum(selected.stops[begin:end], edge)
        for some in divide(stops - starts, most):
            yield SelectedRows(
                part, first, selected.instances[begin:end][some], starts[some], stops[some]
            )


def count_instances(
    parts: Sequence[PartReader],
    instances: NDArray[np.int64],
    positions: int | None,
    **limits: Any,
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
    return count_selected(selected, **limits) if selected else count_nothing(parts)


def count_nothing(parts: Sequence[PartReader]) -> StateHistogram:
    """Return the count of no state of a layer."""
    return count_states(np.empty((0, parts[0].shape[1]), np.uint8))


def count_selected(selected: list[SelectedRows], **limits: Any) -> StateHistogram:
    """Count what `select` found, as `count_instances` does."""
    histogram = count_states(selected, **limits)
    return histogram.with_first_rows(partial(_numbers_in_layer, selected))


def _numbers_in_layer(selected: list[SelectedRows], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row numbers in the layer of places, (n,) int64, in all that is selected."""
    starts = np.cumsum([0, *(len(rows) for rows in selected)])
    order = np.argsort(places)
    ascending = places[order]
    edges = np.searchsorted(ascending, starts)
    found = np.empty_like(places)
    for rows, start, begin, end in zip(selected, starts[:-1], edges[:-1], edges[1:], strict=True):
        if begin < end:
            found[order[begin:end]] = rows.layer_rows()[ascending[begin:end] - start]
    return found
