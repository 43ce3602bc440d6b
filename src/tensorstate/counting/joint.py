"""Several histograms side by side: which states they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tensorstate.counting.entries import Entries
from tensorstate.counting.keys import U64Array, changes, empty_keys, mixed_hash, words_per_key
from tensorstate.counting.pieces import Counted, I64Array

__all__ = ["ENTRIES_AT_ONCE", "JointEntries", "joint_entries"]

ENTRIES_AT_ONCE = 1 << 16
"""So many entries of each histogram are looked at together."""


class JointEntries(NamedTuple):
    """All entries that several histograms have of some states.

    Attributes
    ----------
    states : (n,) int64
        Entries of the same state have the same number, from 0 on.
    owners : (n,) int64
        Which of the histograms an entry is from; ascending.
    counts : (n,) int64
        How often that one saw the state.
    """

    states: I64Array
    owners: I64Array
    counts: I64Array


def joint_entries(
    histograms: Sequence[Entries], length: int = ENTRIES_AT_ONCE
) -> Iterator[JointEntries]:
    """Yield the entries of several histograms, those of one state together.

    Parameters
    ----------
    histograms : sequence of StateHistogram
        At least one, of states of the same width, in memory or in files.
    length : int
        About how many entries of each are looked at together.

    Yields
    ------
    JointEntries
        Each state is in one of them, with the entries of all histograms.
    """
    words = words_per_key(histograms[0].width)
    sources = [_Source(some._canonical_chunks(length), words) for some in histograms]
    while not all(source.ended for source in sources):
        for source in sources:
            source.read_on()
        # Other states of the last hash that is here may come yet.
        limits = [source.hashes[-1] for source in sources if not source.ended]
        taken = [source.take(min(limits, default=None)) for source in sources]
        keys, counts = (np.concatenate(arrays) for arrays in zip(*taken, strict=True))
        if len(counts):
            owners = np.repeat(np.arange(len(taken)), [len(counts) for _, counts in taken])
            yield JointEntries(_numbered(keys), owners, counts)


class _Source:
    """Entries of a histogram, in canonical order, that are not taken yet."""

    def __init__(self, chunks: Iterator[Counted], words: int) -> None:
        self.hashes = np.empty(0, np.uint64)
        self.ended = False
        self._chunks = chunks
        self._keys, self._counts = empty_keys(0, words), np.empty(0, np.int64)

    def read_on(self) -> None:
        """Read until there are entries of two hashes, or to the end."""
        while not self.ended and (not len(self.hashes) or self.hashes[0] == self.hashes[-1]):
            chunk = next(self._chunks, None)
            if chunk is None:
                self.ended = True
                return
            self._keys = np.concatenate([self._keys, chunk[0]])
            self._counts = np.concatenate([self._counts, chunk[1]])
            self.hashes = np.concatenate([self.hashes, mixed_hash(chunk[0])])

    def take(self, limit: np.uint64 | None) -> tuple[U64Array, I64Array]:
        """Return keys and counts of hashes below the limit; of all, if there is none."""
        end = len(self.hashes) if limit is None else int(np.searchsorted(self.hashes, limit))
        taken = self._keys[:end], self._counts[:end]
        self._keys, self._counts = self._keys[end:], self._counts[end:]
        self.hashes = self.hashes[end:]
        return taken


def _numbered(keys: U64Array) -> I64Array:
    """Return numbers, from 0 on, that are equal where keys are."""
    words = [keys] if keys.ndim == 1 else [keys[:, 1], keys[:, 0]]
    order = np.lexsort(words)
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = np.cumsum(np.concatenate([[False], changes(keys[order])]))
    return numbers
