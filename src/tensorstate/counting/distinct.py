"""The distinct states of a histogram as packed states, some at a time."""

from __future__ import annotations

from collections.abc import Iterator

from tensorstate.counting.histogram import StateHistogram
from tensorstate.counting.keys import U8Array
from tensorstate.counting.ordered import ENTRIES_AT_ONCE
from tensorstate.counting.pieces import I64Array

__all__ = ["distinct_states"]


def distinct_states(
    histogram: StateHistogram, length: int = ENTRIES_AT_ONCE
) -> Iterator[tuple[U8Array, I64Array]]:
    """Yield distinct states and how often each was seen, also of a histogram in files.

    Parameters
    ----------
    histogram : StateHistogram
        Of states of at most 16 bytes, which their keys hold.
    length : int
        How many states to yield at a time.

    Yields
    ------
    states : (n, W) uint8
        Packed states.
    counts : (n,) int64
        Positive counts, aligned with them.

    Examples
    --------
    >>> histogram = StateHistogram([3, 4], [10, 1], [0, 7], width=1)
    >>> found = list(distinct_states(histogram, length=1))
    >>> sorted((states.tolist(), counts.tolist()) for states, counts in found)
    [([[3]], [10]), ([[4]], [1])]
    """
    for keys, counts, rows in histogram._canonical_chunks(length):
        chunk = StateHistogram(keys, counts, rows, histogram.width)
        yield chunk.packed_states(), counts
