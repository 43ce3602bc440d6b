"""The data of a capture: anything that can be read as batches, in order, from any instance on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tensorstate.cli.arrays import NpzArray, open_hdf5, open_npy, open_zarr
from tensorstate.cli.images import ImageFolder, image_files
from tensorstate.cli.loading import check_no_pipe, first_line, is_object_name, load_object

__all__ = [
    "ArrayData",
    "Data",
    "StreamedData",
    "instances_in",
    "open_data",
    "part_of_batch",
    "scaled",
]

HDF5 = (".h5", ".hdf5", ".hdf")


class Data(Protocol):
    """Instances, in an order that is always the same.

    Attributes
    ----------
    length : int or None
        How many there are; None if only the end of the batches tells.
    shape : tuple of int, or None
        Shape of one instance; None if only a batch tells.
    """

    @property
    def length(self) -> int | None: ...  # noqa: D102

    @property
    def shape(self) -> tuple[int, ...] | None: ...  # noqa: D102

    def batches(self, start: int, stop: int | None, size: int) -> Iterator[Any]:
        """Yield the instances from `start` up to `stop` (None: the end), about `size` at a time."""
        ...


class ArrayData:
    """Instances along the first axis of an array that is read when it is sliced.

    Parameters
    ----------
    array : array
        Anything with ``shape`` and slices of rows; if it has ``chunks``, no chunk is read twice.

    Raises
    ------
    ValueError
        If it has no axis.
    """

    def __init__(self, array: Any) -> None:
        if not array.shape:
            raise ValueError("the data are a single number, not an array of instances")
        self._array = array
        self.length = int(array.shape[0])
        self.shape = tuple(int(length) for length in array.shape[1:])

    def batches(self, start: int, stop: int | None, size: int) -> Iterator[NDArray[Any]]:
        """Yield the instances from `start` up to `stop`, `size` at a time."""
        stop = self.length if stop is None else stop
        if isinstance(self._array, NpzArray):
            yield from self._array.rows(start, stop, size)
            return
        chunks = getattr(self._array, "chunks", None)
        chunk = int(chunks[0]) if chunks else 1
        # Whole chunks, and as many of them as a batch needs.
        step = -(-size // chunk) * chunk
        edges = [start, *range((start // step + 1) * step, stop, step), stop]
        blocks = (self._array[a:b] for a, b in pairwise(edges) if a < b)
        yield from _of_size(blocks, size)


class StreamedData:
    """Batches of a generator, as large as it makes them.

    Parameters
    ----------
    make : callable
        Returns an iterable of batches. If it has a parameter `start`, it is called with the number
        of the first instance that is wanted; if not, batches before that are dropped.
    """

    length = None
    shape = None

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._can_start = _takes_start(make)

    def batches(self, start: int, stop: int | None, size: int) -> Iterator[Any]:
        """Yield the batches from instance `start` up to `stop`; their size is the generator's."""
        at = start if self._can_start else 0
        for batch in self._make(start=start) if self._can_start else self._make():
            first, last = max(start - at, 0), instances_in(batch)
            if stop is not None:
                last = min(last, stop - at)
            at += instances_in(batch)
            if first < last:
                yield part_of_batch(batch, first, last)
            if stop is not None and at >= stop:
                return


def open_data(name: str, dataset: str | None, input_shape: tuple[int | None, ...] | None) -> Data:
    """Open the data of a capture, without reading any of it.

    Parameters
    ----------
    name : str
        A .npy, .npz or HDF5 file, a Zarr array or group, a folder of images, or ``module:name`` of
        an array, of a function that returns one, or of one that yields batches.
    dataset : str or None
        Which array of a file that holds several.
    input_shape : tuple or None
        What the model takes; needed for images, which are made to fit.

    Raises
    ------
    OSError
        If it is not there or cannot be read.
    ValueError
        If it is something else.
    """
    path = Path(name)
    check_no_pipe(path)
    if name.endswith(".npy"):
        return ArrayData(open_npy(name))
    if name.endswith(".npz"):
        return ArrayData(NpzArray(name, dataset))
    if name.endswith(HDF5):
        return ArrayData(open_hdf5(name, dataset))
    if is_object_name(name) and not path.exists():
        return _from_object(name)
    if path.is_file():
        raise ValueError(
            f"{name} is no data that can be read: give a .npy, .npz or HDF5 file, a Zarr array, a "
            "folder of images, or module:function"
        )
    # Looked for first, as a store may have more chunks than anybody wants to be listed.
    is_zarr = any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup"))
    if path.is_dir() and not is_zarr:
        files = image_files(path)
        if files:
            return ImageFolder(name, files, input_shape)
    return ArrayData(open_zarr(name, dataset))


def instances_in(batch: Any) -> int:
    """Return how many instances a batch has: an array, or a tuple, list or dict of arrays."""
    while isinstance(batch, (tuple, list, dict)):
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    if not getattr(batch, "shape", None):
        raise ValueError(f"a batch holds a {type(batch).__name__} where an array is needed")
    return int(batch.shape[0])


def part_of_batch(batch: Any, first: int, last: int) -> Any:
    """Return the instances from `first` up to `last` of a batch.

    Examples
    --------
    >>> part_of_batch({"a": np.arange(5), "b": np.zeros((5, 2))}, 1, 3)["a"]
    array([1, 2])
    """
    if isinstance(batch, dict):
        return {name: part_of_batch(one, first, last) for name, one in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(part_of_batch(one, first, last) for one in batch)
    return batch[first:last]


def scaled(batches: Iterator[Any], factor: float | None) -> Iterator[Any]:
    """Yield batches multiplied by a factor, whole numbers as float32; as they are without one.

    Examples
    --------
    >>> next(scaled(iter([np.array([[0, 255]], np.uint8)]), 1 / 255))
    array([[0., 1.]], dtype=float32)
    """
    yield from batches if factor is None else (_scaled(batch, factor) for batch in batches)


def _scaled(batch: Any, factor: float) -> Any:
    if isinstance(batch, dict):
        return {name: _scaled(one, factor) for name, one in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(_scaled(one, factor) for one in batch)
    if not isinstance(batch, np.ndarray):
        return batch * factor
    return np.multiply(batch, factor, dtype=batch.dtype if batch.dtype.kind == "f" else np.float32)


def _from_object(name: str) -> Data:
    found = load_object(name)
    if hasattr(found, "shape"):
        return ArrayData(found)
    if not callable(found):
        raise ValueError(f"{name} is neither an array nor a function that returns or yields data")
    if inspect.isgeneratorfunction(found):
        return StreamedData(found)
    # It may take a while, as a download does, so that it is called only once.
    try:
        made = found(start=0) if _takes_start(found) else found()
    except Exception as error:
        raise ValueError(f"{name} failed: {first_line(error)}") from error
    if hasattr(made, "shape"):
        return ArrayData(made)
    if _takes_start(found) or iter(made) is made:
        return StreamedData(found)
    return StreamedData(lambda: made)


def _takes_start(function: Callable[..., Any]) -> bool:
    return "start" in inspect.signature(function).parameters


def _of_size(blocks: Iterator[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    """Cut blocks into batches of one size, of which only the last may be smaller.

    Compiled models are compiled once for each size.
    """
    left: NDArray[Any] | None = None
    for found in blocks:
        block = found if left is None else np.concatenate([left, found])
        whole = len(block) // size * size
        for first in range(0, whole, size):
            yield block[first : first + size]
        left = block[whole:] if whole < len(block) else None
    if left is not None:
        yield left
