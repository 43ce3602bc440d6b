"""The shapes of batches: where their neurons are, whether they go on, and how they are divided."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate.bits import check_activations
from tensorstate.capture.batches import as_array
from tensorstate.storage import LayerInfo, divide

__all__ = ["has_neurons_axis", "neurons_axis", "neurons_last", "other_shape", "pieces"]


def has_neurons_axis(rank: int, axis: int) -> bool:
    """Whether there is such an axis in so many, and another one, the first, of instances."""
    return rank >= 2 and -rank <= axis < rank and axis % rank != 0


def neurons_axis(shape: tuple[int | None, ...], axis: int, name: str) -> int:
    """Return the axis of the neurons, from 0 on, in a batch of activations of this shape.

    Parameters
    ----------
    shape : tuple of int or None
        Of the activations, as far as it is known.
    axis : int
        The channel axis; it may count from the end.
    name : str
        Names the capture in an error.

    Raises
    ------
    ValueError
        If there is no such axis, or it is that of the instances.

    Examples
    --------
    >>> neurons_axis((32, None, 20), -1, "lstm")
    2
    """
    if not has_neurons_axis(len(shape), axis):
        raise ValueError(
            f"capture {name!r} needs instances on axis 0 and neurons on axis {axis}, "
            f"but got an array of shape {shape}"
        )
    return axis % len(shape)


def neurons_last(array: Any, axis: int, name: str) -> NDArray[Any]:
    """Return a batch of activations with its neurons on the last axis.

    Parameters
    ----------
    array : array_like, shape (instances, ..., neurons, ...)
        As for `StateRecorder.record`.
    axis, name
        As for `neurons_axis`.

    Raises
    ------
    TypeError, ValueError
        If it is no batch of activations.
    """
    batch = as_array(array)
    found = neurons_axis(batch.shape, axis, name)
    if found != batch.ndim - 1:
        batch = np.moveaxis(batch, found, -1)
    check_activations(batch)
    return batch


def other_shape(neurons: int, positions: int | None, info: LayerInfo, name: str) -> ValueError:
    """Return the error for a batch that does not go on with what was captured before."""
    if positions is None:
        return ValueError(
            f"capture {name!r} got {neurons} neurons, after batches of "
            f"{info.neurons}: all instances of a run have the same neurons"
        )
    return ValueError(
        f"capture {name!r} got {neurons} neurons at {positions} positions, after "
        f"batches of {info.neurons} at {info.positions}: all instances of a "
        "run have the same shape, but with variable_positions=True they may differ in "
        "their positions"
    )


def pieces(
    shape: tuple[int, ...], lengths: NDArray[np.int64] | None, most: int, may_differ: bool
) -> Iterator[tuple[int, int, NDArray[np.int64] | None]]:
    """Divide a batch into pieces of at most so many rows, or of one instance that has more.

    Parameters
    ----------
    shape : tuple of int
        Instances, positions, neurons; rows and neurons if there are lengths.
    lengths : (instances,) int64, or None
        How many rows each instance has.
    most : int
        Rows of a piece.
    may_differ : bool
        Whether instances may differ in their number of positions.

    Yields
    ------
    start, stop : int
        From where to where the piece goes along axis 0.
    lengths : (n,) int64, or None
        Of the instances in the piece, if they may differ.

    Examples
    --------
    >>> list(pieces((5, 2, 8), None, 4, False))
    [(0, 2, None), (2, 4, None), (4, 5, None)]
    """
    if lengths is not None:
        edges = np.append(0, np.cumsum(lengths))
        for some in divide(lengths, most):
            yield int(edges[some.start]), int(edges[some.stop]), lengths[some]
        return
    instances, *positions, _ = shape
    rows = math.prod(positions)
    step = max(1, most // max(1, rows))
    for start in range(0, instances, step):
        stop = min(start + step, instances)
        yield start, stop, np.full(stop - start, rows) if may_differ else None
