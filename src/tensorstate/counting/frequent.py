"""The entries with the largest counts, found in one pass and little memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tensorstate.counting.pieces import Counted

__all__ = ["most_frequent"]


def most_frequent(pieces: Iterable[Counted], number: int) -> Counted | None:
    """Return the entries with the largest counts.

    Parameters
    ----------
    pieces : iterable of (keys, counts, first rows)
        All entries, some at a time.
    number : int
        How many to return at most, at least one.

    Returns
    -------
    (keys, counts, first rows), or None
        The largest count first; of equal ones, the one that was seen first. None if there is no
        entry.
    """
    best: Counted | None = None
    for keys, counts, rows in pieces:
        if best is not None and len(best[1]) == number:
            # Most entries are no better than the last of the best, and are not sorted.
            count, row = best[1][-1], best[2][-1]
            better = np.flatnonzero((counts > count) | ((counts == count) & (rows < row)))
            keys, counts, rows = keys[better], counts[better], rows[better]
        if best is not None:
            keys = np.concatenate([best[0], keys])
            counts = np.concatenate([best[1], counts])
            rows = np.concatenate([best[2], rows])
        order = np.lexsort((rows, -counts))[:number]
        best = keys[order], counts[order], rows[order]
    return best
