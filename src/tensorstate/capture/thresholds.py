"""Thresholds: one number, one for each neuron, or what a function makes of the first batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tensorstate.capture.batches import Batch

__all__ = [
    "KnownThreshold",
    "Threshold",
    "check_threshold",
    "check_threshold_count",
    "first_threshold",
]

KnownThreshold: TypeAlias = float | tuple[float, ...]
"""A number, or one for each neuron."""

Threshold: TypeAlias = (
    float | Sequence[float] | NDArray[Any] | Callable[[NDArray[Any]], float | NDArray[Any]]
)
"""What users may give: a `KnownThreshold` in any form, or a function.

The function is called once, with the first batch that is recorded, its neurons on the last axis;
what it returns holds for the whole run and is stored with it.
"""


def check_threshold(
    threshold: Threshold,
) -> KnownThreshold | Callable[[NDArray[Any]], float | NDArray[Any]]:
    """Return a threshold in its simplest form, if it makes sense.

    Raises
    ------
    TypeError
        If it is neither numbers nor a function.
    ValueError
        If a number is not finite, or there are several rows of them, or none.
    """
    return threshold if callable(threshold) else _known(threshold)


def check_threshold_count(threshold: Threshold, neurons: int, name: str) -> None:
    """Raise ValueError if a capture has a threshold for each neuron of another number of them."""
    if isinstance(threshold, tuple) and len(threshold) != neurons:
        raise ValueError(
            f"capture {name!r} has {len(threshold)} thresholds, but its states have {neurons} "
            "neurons: give one for each, or one number for all of them"
        )


def first_threshold(threshold: Threshold, batch: Batch, name: str) -> KnownThreshold:
    """Return the threshold of a capture, of which this is the first batch.

    Parameters
    ----------
    threshold : Threshold
        As `check_threshold` returns it.
    batch : Batch
        The first activations that are recorded.
    name : str
        Names the capture in an error.

    Raises
    ------
    TypeError, ValueError
        If a function does not return a number, or one for each neuron, that is finite; or there is
        not one for each neuron.
    """
    if callable(threshold):
        return _threshold_of(threshold, batch.values(), name)
    known = _known(threshold)
    check_threshold_count(known, batch.shape[-1], name)
    return known


def _threshold_of(
    function: Callable[[NDArray[Any]], float | NDArray[Any]], batch: NDArray[Any], name: str
) -> KnownThreshold:
    """Return what a threshold function makes of a batch.

    Parameters
    ----------
    function : callable
        Called with the batch.
    batch : ndarray, shape (instances, ..., neurons)
        The first activations that are recorded.
    name : str
        Names the capture in an error.

    Raises
    ------
    TypeError, ValueError
        If it does not return a number, or one for each neuron, that is finite.
    """
    if batch.dtype.kind not in "fiub":  # bfloat16, which few functions of NumPy know
        batch = batch.astype(np.float32)
    found = function(batch)
    try:
        known = _known(found)
        if isinstance(known, tuple) and len(known) != batch.shape[-1]:
            raise ValueError(f"there are {len(known)} thresholds for {batch.shape[-1]} neurons")
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"the threshold function of capture {name!r} is to return a number, or one for each "
            f"of its {batch.shape[-1]} neurons: {error}"
        ) from None
    return known


def _known(threshold: Any) -> KnownThreshold:
    try:
        numbers = np.asarray(threshold)
    except ValueError:
        raise ValueError(f"a threshold is a number or a row of them, not {threshold!r}") from None
    if numbers.dtype.kind not in "fiu":
        raise TypeError(
            f"a threshold is a number, one for each neuron, or a function of a batch, "
            f"not {threshold!r}"
        )
    if numbers.ndim > 1 or numbers.size == 0:
        raise ValueError(
            f"a threshold is a number or a row of them, not an array of shape {numbers.shape}"
        )
    numbers = numbers.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"the threshold is a finite number, not {threshold!r}")
    return float(numbers) if numbers.ndim == 0 else tuple(numbers.tolist())
