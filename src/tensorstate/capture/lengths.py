"""Which positions of a padded batch are recorded, where instances differ in their number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["mask_of_lengths", "rows_where"]


def mask_of_lengths(lengths: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.bool_]:
    """Return where the positions of a batch count, of which each instance has its first ones.

    Parameters
    ----------
    lengths : array_like of int, shape (instances,)
        How many entries of axis 1 count.
    shape : tuple of int
        Instances, positions on one or more axes, neurons.
    name : str
        Names the capture in an error.

    Returns
    -------
    ndarray of bool, shape (instances, positions of axis 1)

    Raises
    ------
    TypeError
        If lengths are not whole numbers.
    ValueError
        If there are no positions, or not one length for each instance, or one is less than 0 or
        more than there are.

    Examples
    --------
    >>> mask_of_lengths([2, 0], (2, 3, 20), "lstm")
    array([[ True,  True, False],
           [False, False, False]])
    """
    found = np.asarray(lengths)
    if len(shape) < 3:
        raise ValueError(
            f"capture {name!r} got lengths with an array of shape {shape}, which has no axis of "
            "positions beside those of instances and neurons: leave them out"
        )
    if found.shape != shape[:1]:
        raise ValueError(
            f"capture {name!r} got lengths of shape {found.shape} with {shape[0]} instances: "
            "give each instance one"
        )
    if found.size and found.dtype.kind not in "iu":
        raise TypeError(f"lengths are whole numbers, not {found.dtype}")
    wrong = np.flatnonzero((found < 0) | (found > shape[1]))
    if len(wrong):
        raise ValueError(
            f"capture {name!r} got the length {found[wrong[0]]} for instance {wrong[0]} of a batch "
            f"with {shape[1]} positions: a length is from 0 to that"
        )
    return np.asarray(np.arange(shape[1]) < found[:, None])


def rows_where(
    batch: NDArray[Any], mask: ArrayLike | None, name: str
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Return the activations at the positions of a batch where a mask is true.

    Parameters
    ----------
    batch : ndarray, shape (instances, ..., neurons)
        Activations.
    mask : array_like of bool, shape (instances, ...), or None
        Has an entry for the entries of one or more of the batch's axes after that of the
        instances; it holds for all positions on the others. None leaves everything as it is.
    name : str
        Names the capture in an error.

    Returns
    -------
    rows : ndarray, shape (n, neurons)
        In the order of the instances and their positions; without a mask, the batch.
    lengths : (instances,) int64, or None
        How many rows each instance has; without a mask, None.

    Raises
    ------
    ValueError
        If the mask does not fit the batch.
    """
    if mask is None:
        return batch, None
    where = np.asarray(mask, np.bool_)
    if where.ndim < 2 or where.shape != batch.shape[:-1][: where.ndim]:
        raise ValueError(
            f"capture {name!r} got a mask of shape {where.shape}, which does not fit instances and "
            f"positions of a batch of shape {batch.shape}, neurons last: exclude the layer, or "
            "record without variable_positions"
        )
    lengths = where.sum(tuple(range(1, where.ndim)), dtype=np.int64)
    lengths *= math.prod(batch.shape[where.ndim : -1])
    return batch[where].reshape(-1, batch.shape[-1]), lengths
