"""Back from keys to the packed states that they stand for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tensorstate.counting.keys import WIDEST_EXACT, U8Array, U64Array, key_words, words_per_key

__all__ = ["Fetch", "packed_states"]

Fetch = Callable[[npt.NDArray[np.int64]], npt.ArrayLike]
"""Called with ascending row numbers, it returns these rows of what was counted."""


def packed_states(
    keys: U64Array, first_rows: npt.NDArray[np.int64], width: int, fetch: Fetch | None
) -> U8Array:
    """Return packed states from their keys, or from the rows where they were first seen.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Key words.
    first_rows : (n,) int64
        Row numbers, all different.
    width : int
        Bytes W of a packed state.
    fetch : callable, or None
        Reads rows; needed where keys are digests.

    Returns
    -------
    (n, W) uint8

    Raises
    ------
    ValueError
        If `fetch` is needed and missing, or returns other rows than those that were counted.
    """
    if width <= WIDEST_EXACT:
        words = np.ascontiguousarray(keys, "<u8").reshape(len(keys), words_per_key(width))
        return np.ascontiguousarray(words.view(np.uint8)[:, :width])
    if fetch is None:
        raise ValueError(
            f"keys of states of {width} bytes are digests: pass fetch, a function "
            "that returns the rows with given numbers of what was counted"
        )
    order = np.argsort(first_rows)
    found = np.asarray(fetch(first_rows[order]))
    shape = (len(keys), width)
    if found.dtype != np.uint8 or found.shape != shape:
        raise ValueError(
            f"fetch returned {found.dtype} of the shape {found.shape} "
            f"where uint8 of the shape {shape} was asked for"
        )
    wrong = np.flatnonzero((key_words(found) != keys[order]).any(axis=1))
    if len(wrong):
        row = first_rows[order[wrong[0]]]
        raise ValueError(
            f"row {row} does not hold the state that was counted there: "
            "fetch must read the same rows"
        )
    states = np.empty(shape, np.uint8)
    states[order] = found
    return states
