"""Spectra of many weighted sums of the same histograms, from one walk through them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate.counting.histogram import StateHistogram
from tensorstate.counting.joint import JointEntries, joint_entries
from tensorstate.counting.parts import Spectrum
from tensorstate.counting.pieces import I64Array
from tensorstate.counting.walk import sum_of_spectra

__all__ = ["weighted_spectra"]

_ELEMENTS = 1 << 20
"""About so many products of an entry and a weight are in memory at once."""

_BINS = 1 << 10
"""Counts below this are gathered in a bin for each, larger ones in a list."""


def weighted_spectra(
    histograms: Sequence[StateHistogram], weights: NDArray[np.integer[Any]]
) -> list[Spectrum]:
    """Return the spectra of sums of histograms, each of them with a whole-number weight.

    A bootstrap draws weights at random; a sum of the first few has weights 1 and 0.

    Parameters
    ----------
    histograms : sequence of StateHistogram
        At least one, of states of the same width.
    weights : (sums, histograms) integers
        How often each histogram is in each sum, 0 or more.

    Returns
    -------
    list of (times_seen, number_of_states)
        For each sum, as `StateHistogram.spectrum` returns them.

    Examples
    --------
    >>> one = StateHistogram([3, 4], [10, 1], [0, 7], width=1)
    >>> two = StateHistogram([4, 5], [2, 2], [5, 8], width=1)
    >>> both, twice = weighted_spectra([one, two], np.array([[1, 1], [0, 2]]))
    >>> both[0].tolist(), both[1].tolist(), twice[0].tolist(), twice[1].tolist()
    ([2, 3, 10], [1, 1, 1], [4], [2])
    """
    columns = np.ascontiguousarray(weights.T, np.int64)
    sums = columns.shape[1]
    bins = np.zeros((sums, _BINS), np.int64)
    large: list[list[Spectrum]] = [[] for _ in range(sums)]
    for entries in joint_entries(histograms):
        for counts in _counts_of_sums(entries, columns):
            _gather(counts, bins, large)
    return [_joined(*of_sum) for of_sum in zip(bins, large, strict=True)]


def _counts_of_sums(entries: JointEntries, columns: I64Array) -> Iterator[I64Array]:
    """Yield how often states are in each sum, (some states, sums), a few at a time."""
    order = np.argsort(entries.states, kind="stable")
    states = entries.states[order]
    owners, counts = entries.owners[order], entries.counts[order]
    begins = np.flatnonzero(np.diff(states, prepend=-1))
    at_once = max(_ELEMENTS // columns.shape[1], 1)
    first = 0
    while first < len(begins):
        # As many states as have few enough entries, but one at least.
        last = max(int(np.searchsorted(begins, begins[first] + at_once)), first + 1)
        start, stop = begins[first], begins[last] if last < len(begins) else len(states)
        products = counts[start:stop, None] * columns[owners[start:stop]]
        yield np.add.reduceat(products, begins[first:last] - start, axis=0)
        first = last


def _gather(counts: I64Array, bins: I64Array, large: list[list[Spectrum]]) -> None:
    """Add counts of states, a column for each sum, to what was seen before."""
    sums = len(bins)
    is_small = counts < _BINS
    places = counts + _BINS * np.arange(sums)
    bins += np.bincount(places[is_small], minlength=bins.size).reshape(bins.shape)
    for number in np.flatnonzero(~is_small.all(axis=0)):
        found = np.unique(counts[~is_small[:, number], number], return_counts=True)
        large[number].append(found)


def _joined(bins: I64Array, large: list[Spectrum]) -> Spectrum:
    times = np.flatnonzero(bins[1:]) + 1
    return sum_of_spectra([(times, bins[times]), *large])
