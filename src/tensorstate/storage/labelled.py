"""The packed states of a layer as an array with named dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tensorstate.storage.instances import InstanceNumbers
from tensorstate.storage.part import PartReader

if TYPE_CHECKING:
    import xarray

    from tensorstate.storage.layer import LayerStates

__all__ = ["InstancesOfRows", "labelled_states"]


def labelled_states(layer: LayerStates) -> xarray.DataArray:
    """Return the packed states of a layer; see `LayerStates.to_xarray`."""
    try:
        import xarray
    except ImportError as error:
        raise ImportError("labelled arrays need xarray: pip install tensorstate[xarray]") from error
    states, parts, positions = layer.raw_states, layer._parts(), layer.positions
    numbers = InstanceNumbers.of(parts, positions)
    sizes = _row_chunks(parts) if positions is None else _instance_chunks(parts, positions)
    rows = tuple(size * (positions or 1) for size in sizes)
    data = da.from_array(states, (rows, -1), name=False, meta=np.empty((0, 0), np.uint8))
    coords: dict[str, Any] = {"byte": pd.RangeIndex(states.shape[1])}
    if positions is None:
        dims = ["row", "byte"]
        of_rows = da.from_array(InstancesOfRows(parts), (rows,), name=False, meta=np.empty(0, int))
        coords["instance"] = ("row", of_rows)
    else:
        dims = ["instance", "position", "byte"]
        data = data.map_blocks(
            np.reshape,
            (-1, positions, states.shape[1]),
            chunks=(sizes, (positions,), (states.shape[1],)),
            new_axis=1,
            dtype=np.uint8,
            meta=np.empty((0, 0, 0), np.uint8),
        )
        coords |= {"instance": _index(numbers), "position": pd.RangeIndex(positions)}
    return xarray.DataArray(
        data,
        coords,
        dims,
        name=layer.name,
        attrs={
            "neurons": layer.neurons,
            "threshold": layer.threshold,
            "units": "8 neurons, a bit each",
            "bit_order": "neuron j is bit j % 8 of byte j // 8; it fires where the bit is 1",
        },
    )


class InstancesOfRows:
    """The number of the instance that each row of a layer belongs to, found when it is sliced.

    Parameters
    ----------
    parts : sequence of PartReader
        Of a layer whose instances differ in their number of positions.
    """

    dtype = np.dtype(np.int64)
    ndim = 1

    def __init__(self, parts: Sequence[PartReader]) -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.shape = (int(self._starts[-1]),)

    def __getitem__(self, key: Any) -> NDArray[np.int64]:
        (rows,) = key if isinstance(key, tuple) else (key,)
        start, stop, step = rows.indices(self.shape[0])
        if step < 0:
            start, stop = stop + 1, start + 1
        found = [
            _instances_in(part, max(start, first) - first, min(stop, end) - first)
            for part, (first, end) in zip(self._parts, pairwise(self._starts.tolist()), strict=True)
            if first < stop and start < end
        ]
        return np.concatenate([np.empty(0, np.int64), *found])[::step]


def _instances_in(part: PartReader, start: int, stop: int) -> NDArray[np.int64]:
    extents = part.extents(None)
    first, last = extents.holding(start, stop)
    instances = np.arange(first, last + 1)
    starts, stops = (np.clip(edges, start, stop) for edges in extents.bounds(instances))
    return np.repeat(instances + part.first_instance, stops - starts)


def _row_chunks(parts: Sequence[PartReader]) -> tuple[int, ...]:
    """Return how many rows each chunk of the parts has."""
    sizes: list[int] = []
    for part in parts:
        edges = [*range(0, len(part), part.chunks[0]), len(part)]
        sizes += [end - start for start, end in pairwise(edges) if end > start]
    return tuple(sizes)


def _instance_chunks(parts: Sequence[PartReader], positions: int) -> tuple[int, ...]:
    """Return how many instances are read together: those that end in the same chunk of a part.

    Examples
    --------
    >>> class Part:
    ...     chunks = (10, 1)
    ...     def __len__(self):
    ...         return 24
    >>> _instance_chunks([Part()], 4)
    (2, 3, 1)
    """
    sizes: list[int] = []
    for part in parts:
        ends = np.append(np.arange(part.chunks[0], len(part), part.chunks[0]), len(part))
        sizes += np.diff(np.unique(ends // positions), prepend=0).tolist()
    return tuple(size for size in sizes if size)


def _index(numbers: InstanceNumbers) -> pd.Index[int]:
    """Return the numbers of instances, which take no memory if there are no gaps."""
    if numbers.count == numbers.span:
        return pd.RangeIndex(numbers.span)
    return pd.Index(numbers.all())
