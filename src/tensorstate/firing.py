"""How often neurons fire, alone and together, counted on packed states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate.bits import packed_width
from tensorstate.firing_kernels import add_firing, add_pairs

__all__ = ["MOST_PAIRED_NEURONS", "check_paired_neurons", "cofiring_counts", "firing_counts"]

MOST_PAIRED_NEURONS = 4096
"""The counts of all pairs of so many neurons take 128 MiB."""


def firing_counts(packed: NDArray[np.uint8], neurons: int) -> NDArray[np.int64]:
    """Count in how many states each neuron fires.

    Parameters
    ----------
    packed : ndarray of uint8, shape (rows, ceil(neurons / 8))
        Packed states.
    neurons : int
        Neurons in a state.

    Returns
    -------
    ndarray of int64, shape (neurons,)

    Raises
    ------
    TypeError, ValueError
        If these are no packed states of so many neurons.

    Examples
    --------
    >>> firing_counts(np.array([[5], [1]], np.uint8), 3).tolist()
    [2, 0, 1]
    """
    _check(packed, neurons)
    counts = np.zeros(8 * packed.shape[1], np.int64)
    _add(packed, counts, add_firing)
    return counts[:neurons]


def cofiring_counts(packed: NDArray[np.uint8], neurons: int) -> NDArray[np.int64]:
    """Count in how many states two neurons fire together, for each pair of neurons.

    Parameters
    ----------
    packed : ndarray of uint8, shape (rows, ceil(neurons / 8))
        Packed states.
    neurons : int
        Neurons in a state, at most 4,096.

    Returns
    -------
    ndarray of int64, shape (neurons, neurons)
        Symmetric; `firing_counts` on the diagonal.

    Raises
    ------
    TypeError, ValueError
        If these are no packed states of so many neurons, or they are too many.

    Examples
    --------
    >>> cofiring_counts(np.array([[5], [1]], np.uint8), 3).tolist()
    [[2, 0, 1], [0, 0, 0], [1, 0, 1]]
    """
    _check(packed, neurons)
    check_paired_neurons(neurons)
    counts = np.zeros((neurons, neurons), np.int64)
    _add(packed, counts, add_pairs)
    counts += np.triu(counts, 1).T
    return counts


def check_paired_neurons(neurons: int) -> None:
    """Raise ValueError if there are too many neurons to count each pair of them."""
    if neurons > MOST_PAIRED_NEURONS:
        raise ValueError(
            f"pairs are counted of at most {MOST_PAIRED_NEURONS} neurons, not of {neurons}, "
            f"which would take {8 * neurons**2 >> 20} MiB: capture fewer neurons"
        )


def _check(packed: NDArray[np.uint8], neurons: int) -> None:
    if packed.dtype != np.uint8:
        raise TypeError(f"packed states are uint8, not {packed.dtype}")
    if neurons < 1 or packed.ndim != 2 or packed.shape[1] != packed_width(neurons):
        raise ValueError(
            f"packed states of {neurons} neurons have the shape (rows, {packed_width(neurons)}), "
            f"not {packed.shape}"
        )


def _add(packed: NDArray[np.uint8], counts: NDArray[np.int64], kernel: Callable[..., Any]) -> None:
    """Let a kernel, which reads up to 7 bytes beyond a state, see nothing beyond the last one."""
    rows, width = packed.shape
    flat = np.ascontiguousarray(packed).reshape(-1)
    flat.flags.writeable = False
    tail = min(rows, -(-7 // width))
    kernel(flat, width, rows - tail, counts)
    end = np.zeros(tail * width + 7, np.uint8)
    end[: tail * width] = flat[(rows - tail) * width :]
    end.flags.writeable = False
    kernel(end, width, tail, counts)
