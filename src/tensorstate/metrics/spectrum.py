"""The spectrum of counts: how many states were seen exactly c times, for each c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Spectrum", "spectrum"]


def spectrum(counts: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many states were seen exactly c times, for each c that occurs.

    Parameters
    ----------
    counts : array_like of integers, shape (states,)
        How often each state was seen. States with a count of 0 are left out.

    Returns
    -------
    times_seen : ndarray of int64, shape (n,)
        The counts that occur, ascending and positive.
    number_of_states : ndarray of int64, shape (n,)
        How many states have that count.

    Raises
    ------
    TypeError
        If the counts are not whole numbers.
    ValueError
        If they are not one-dimensional, or one is negative.

    Examples
    --------
    >>> times_seen, number_of_states = spectrum([3, 1, 1, 0])
    >>> times_seen.tolist(), number_of_states.tolist()
    ([1, 3], [2, 1])
    """
    counts = np.asarray(counts)
    if counts.size == 0:
        counts = counts.astype(np.int64)
    if counts.dtype.kind not in "iu":
        raise TypeError(f"counts are whole numbers, not {counts.dtype}")
    if counts.ndim != 1:
        raise ValueError(f"counts have one axis, not the shape {counts.shape}")
    times_seen, number_of_states = np.unique(counts, return_counts=True)
    if times_seen.size and times_seen[0] < 0:
        raise ValueError(f"a count is never negative, but one is {times_seen[0]}")
    seen = times_seen > 0
    return times_seen[seen].astype(np.int64), number_of_states[seen].astype(np.int64)


@dataclass(frozen=True)
class Spectrum:
    """A spectrum in exact integers, which neither overflow nor round.

    Attributes
    ----------
    times_seen : tuple of int
        The counts that occur, positive.
    number_of_states : tuple of int
        How many states have that count.
    total : int
        Rows: the sum of all counts.
    distinct : int
        States that were seen.
    """

    times_seen: tuple[int, ...]
    number_of_states: tuple[int, ...]
    total: int
    distinct: int

    @classmethod
    def of(
        cls, times_seen: NDArray[np.integer[Any]], number_of_states: NDArray[np.integer[Any]]
    ) -> Spectrum:
        """Take the arrays that `spectrum` returns.

        Raises
        ------
        ValueError
            If there is no state in them.

        Examples
        --------
        >>> Spectrum.of(*spectrum([3, 1, 1]))
        Spectrum(times_seen=(1, 3), number_of_states=(2, 1), total=5, distinct=3)
        """
        seen, states = tuple(map(int, times_seen)), tuple(map(int, number_of_states))
        total = sum(c * n for c, n in zip(seen, states, strict=True))
        if total == 0:
            raise ValueError("no state was counted, so there is no entropy")
        return cls(seen, states, total, sum(states))

    def check_possible(self, states: int) -> None:
        """Raise if there cannot be so many possible states.

        Raises
        ------
        TypeError
            If their number is no integer.
        ValueError
            If it is smaller than that of the states seen.
        """
        if not isinstance(states, (int, np.integer)):
            raise TypeError(f"the number of possible states is an integer, not {states!r}")
        if states < self.distinct:
            raise ValueError(
                f"{self.distinct} distinct states were seen, so there cannot be only {states} "
                "possible ones: pass states=2**neurons"
            )

    @property
    def coverage(self) -> float:
        """Good-Turing coverage; see `coverage_of_spectrum` in `tensorstate.metrics`."""
        return (self.total - self.seen(1)) / self.total

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield each count with the number of states that have it."""
        return zip(self.times_seen, self.number_of_states, strict=True)

    def seen(self, times: int) -> int:
        """Return how many states were seen exactly so often.

        Examples
        --------
        >>> Spectrum.of(*spectrum([3, 1, 1])).seen(1)
        2
        """
        return sum(n for c, n in self if c == times)
