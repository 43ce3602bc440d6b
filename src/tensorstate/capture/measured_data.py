"""The data that efficiency is measured on while a network trains; knows no framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MeasuredData", "map_arrays"]


@dataclass(frozen=True)
class MeasuredData:
    """Inputs that can be run through a network again and again.

    Attributes
    ----------
    inputs : array, nested arrays, or dataset
        Without targets, unless they are in the batches of a dataset.
    batch_size : int or None
        Instances in a batch, if the data are arrays and it was given.
    is_dataset : bool
        Whether the data come in batches of their own.
    """

    inputs: Any
    batch_size: int | None
    is_dataset: bool

    @classmethod
    def checked(cls, data: Any, batch_size: int | None) -> MeasuredData:
        """Make it from what users give: inputs, or a tuple (inputs, targets).

        Raises
        ------
        TypeError
            If the data can only be used once, are no data, or the batch size is no integer.
        ValueError
            If the data are empty or never end, or the batch size makes no sense.
        """
        if isinstance(data, Iterator):
            raise TypeError(
                f"a {type(data).__name__} is used up by the first measurement: give arrays, or a "
                "dataset that begins anew every time"
            )
        if isinstance(data, tuple):
            if not 1 <= len(data) <= 3:
                raise ValueError(
                    f"a tuple is (inputs, targets), not of {len(data)}: give several inputs as a "
                    "list"
                )
            data = data[0]
        _check_batch_size(batch_size)
        is_dataset = _is_dataset(data)
        if is_dataset:
            _check_dataset(data, batch_size)
        else:
            _check_arrays(data)
        return cls(data, batch_size, is_dataset)


def map_arrays(function: Callable[[Any], Any], nested: Any) -> Any:
    """Return dictionaries, lists and tuples of arrays with a function applied to every array."""
    if isinstance(nested, Mapping):
        return {key: map_arrays(function, value) for key, value in nested.items()}
    if isinstance(nested, (list, tuple)):
        return [map_arrays(function, value) for value in nested]
    return function(nested)


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is None:
        return
    if not isinstance(batch_size, int) or isinstance(batch_size, bool):
        raise TypeError(f"batch_size is a number of instances, not {batch_size!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1, not {batch_size}")


def _check_dataset(dataset: Any, batch_size: int | None) -> None:
    if batch_size is not None:
        raise ValueError("batch_size is for arrays: a dataset comes in batches of its own")
    batches = _batch_count(dataset)
    if batches == math.inf:
        raise ValueError("the dataset has no end: limit it, for example with take()")
    if batches == 0:
        raise ValueError("the dataset holds no instance: there is nothing to measure on")


def _check_arrays(data: Any) -> None:
    arrays: list[Any] = []
    map_arrays(arrays.append, data)
    for array in arrays or [None]:
        if not getattr(array, "shape", None):
            raise TypeError(
                "efficiency is measured on arrays or a dataset, "
                f"not on {type(data if array is None else array).__name__}"
            )
        if array.shape[0] == 0:
            raise ValueError("the data hold no instance: there is nothing to measure on")


def _is_dataset(data: Any) -> bool:
    """Tell a dataset of TensorFlow, Keras or PyTorch without importing their packages."""
    names = {base.__name__ for base in type(data).__mro__}
    datasets = {"DatasetV2", "DistributedDatasetInterface", "PyDataset", "DataLoader"}
    return bool(names & datasets)


def _batch_count(dataset: Any) -> float:
    """Return the number of batches: infinity if there is no end, NaN if nobody knows."""
    if hasattr(dataset, "num_batches"):
        return math.inf if dataset.num_batches is None else int(dataset.num_batches)
    if hasattr(dataset, "cardinality"):
        count = int(dataset.cardinality())
        return {-1: math.inf, -2: math.nan}.get(count, count)
    try:
        return len(dataset)
    except TypeError:  # a loader of what only can be iterated over
        return math.nan
