"""The result of counting: distinct keys, their counts and their first rows."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import StoreLike

from tensorstate.counting import loading, saving
from tensorstate.counting.decoding import Fetch, packed_states
from tensorstate.counting.entries import Entries, read_only
from tensorstate.counting.keys import U8Array, words_per_key
from tensorstate.counting.memory import LOADED_SHARE, MemoryLimit, fits, spill_location
from tensorstate.counting.ordered import ENTRIES_AT_ONCE, merge_to_files
from tensorstate.counting.parts import RenumberedPart, renumbered
from tensorstate.counting.pieces import I64Array, merged, partition, partition_bits
from tensorstate.counting.showing import ShownHistogram
from tensorstate.counting.walk import are_outside, loaded, sum_of_spectra
from tensorstate.metrics import entropy_of_spectrum, spectrum

__all__ = ["StateHistogram"]


class StateHistogram(Entries, ShownHistogram):
    """Distinct states with their counts and the first row where each was seen.

    Counting does not pay for an order: after it the entries are in one that depends on how the
    rows were chunked and counted. `sorted` gives the canonical order, which depends on nothing
    but the entries. A histogram does not change.

    A histogram that is larger than memory stays in files (`is_stored`): in its own, which are
    removed when nothing refers to them any more, or in those that it was loaded from. `spectrum`,
    `entropy`, `save`, `sorted`, `==` and `to_dask` then read a part at a time; `keys`, `counts`
    and `first_rows` read all, at each use.

    Parameters
    ----------
    keys : (distinct,) or (distinct, 2) uint64
        Key words of the distinct states: one word for `width` <= 8, else two. Up to 16 bytes
        they are the packed state, zero-extended, little-endian; for wider states they are the
        low and the high word of its XXH3-128 digest.
    counts : (distinct,) int64
        How often each state was seen, at least once.
    first_rows : (distinct,) int64
        Number of the first row where it was seen.
    width : int
        Bytes W of a packed state.

    Raises
    ------
    ValueError
        If the arrays do not fit each other or the width.

    Examples
    --------
    >>> from tensorstate.counting import count_states
    >>> histogram = count_states(np.array([[7], [0], [7]], np.uint8))
    >>> histogram
    <StateHistogram: 2 distinct of 3 states, 1 byte each>
    >>> histogram.keys.tolist(), histogram.counts.tolist(), histogram.first_rows.tolist()
    ([0, 7], [1, 2], [1, 0])
    """

    def __repr__(self) -> str:
        size = "1 byte" if self._width == 1 else f"{self._width} bytes"
        return f"<StateHistogram: {self.distinct} distinct of {self.total} states, {size} each>"

    def spectrum(self) -> tuple[I64Array, I64Array]:
        """Return how many states were seen exactly c times, for each c that occurs.

        Returns
        -------
        times_seen : (n,) int64
            The counts that occur, ascending.
        number_of_states : (n,) int64
            How many states have that count.

        Examples
        --------
        >>> from tensorstate.counting import count_states
        >>> histogram = count_states(np.array([[7], [0], [7], [1]], np.uint8))
        >>> times_seen, number_of_states = histogram.spectrum()
        >>> times_seen.tolist(), number_of_states.tolist()
        ([1, 2], [2, 1])
        """
        if are_outside(self._parts):
            if self._spectrum is None:
                self._spectrum = sum_of_spectra(part.spectrum() for part in self._parts)
            times, states = self._spectrum
            return times.copy(), states.copy()
        return spectrum(self._joined()[1])

    def entropy(
        self, alpha: float = 1, estimator: str = "plugin", states: int | None = None
    ) -> float:
        """Return the Renyi entropy of the states in bits.

        Parameters
        ----------
        alpha : float
            Order; 1 for the Shannon entropy.
        estimator : str
            How it is estimated, as for `tensorstate.entropy`.
        states : int, optional
            Number of possible states, ``2**neurons``, which "nsb" needs: a histogram knows the
            bytes of a state, but not how many neurons are in the last of them.

        Returns
        -------
        float
            Bits.

        Examples
        --------
        >>> histogram = StateHistogram([0, 7], [2, 2], [0, 1], width=1)
        >>> histogram.entropy(), round(histogram.entropy(estimator="nsb", states=2**3), 3)
        (1.0, 1.669)
        """
        return entropy_of_spectrum(*self.spectrum(), alpha, estimator, states)

    def merge(
        self,
        other: StateHistogram,
        *,
        memory_limit: MemoryLimit = None,
        spill: str | os.PathLike[str] | None = None,
    ) -> StateHistogram:
        """Return the histogram of the states of both.

        Counts add up, and the smaller first row stands. Row numbers are taken as they are: both
        histograms should number rows in the same way (see `with_first_rows`).

        Parameters
        ----------
        other : StateHistogram
            Of states of the same width.
        memory_limit, spill : optional
            As for `count_states`. What does not fit the limit is merged a part at a time, and
            the result is in files of its own. That takes some 100 MiB whatever the limit, and
            parts of a count are as large as its own limit made them.

        Returns
        -------
        StateHistogram

        Raises
        ------
        ValueError
            If the widths differ, or a saved histogram that one of them is read from is damaged.
        OSError
            If files cannot be written, such as on a full disk; nothing is left of them.

        Examples
        --------
        >>> one = StateHistogram([3, 4], [10, 1], [0, 7], width=1)
        >>> two = StateHistogram([4, 5], [2, 2], [5, 8], width=1)
        >>> both = one.merge(two).sorted()
        >>> both.keys.tolist(), both.counts.tolist(), both.first_rows.tolist()
        ([4, 5, 3], [3, 2, 10], [5, 8, 0])
        """
        if self._width != other._width:
            raise ValueError(
                f"histograms of states of {self._width} and of {other._width} bytes "
                "cannot be merged: count rows of one width"
            )
        entries = self.distinct + other.distinct
        # Entries are loaded, laid partition by partition, and merged into new arrays.
        copies = 2 * entries + sum(some.distinct for some in (self, other) if some.is_stored)
        if not fits(copies * (8 * words_per_key(self._width) + 16), memory_limit):
            mine, others = (some._canonical_chunks(ENTRIES_AT_ONCE) for some in (self, other))
            parts = merge_to_files(mine, others, spill_location(spill))
            return StateHistogram.from_parts(parts, self._width, in_order=True)
        bits = partition_bits(entries)
        pieces = [partition(loaded(part), bits) for part in (*self._parts, *other._parts)]
        return StateHistogram.from_parts([merged(pieces)] if pieces else [], self._width)

    def with_first_rows(
        self, first_rows: npt.ArrayLike | Callable[[I64Array], npt.ArrayLike]
    ) -> StateHistogram:
        """Return the same histogram with other row numbers.

        Parameters
        ----------
        first_rows : (distinct,) integers, or callable
            New row numbers, aligned with the present ones; or a function that is called with
            present ones, (n,) int64, and returns new ones. It is called again whenever entries
            of a histogram in files are read, which are not held in memory for that.

        Returns
        -------
        StateHistogram

        Raises
        ------
        ValueError
            If there is not one for each state.

        Examples
        --------
        >>> histogram = StateHistogram([3, 4], [10, 1], [0, 7], width=1)
        >>> histogram.with_first_rows(lambda rows: rows + 100).first_rows.tolist()
        [100, 107]
        """
        if callable(first_rows) and are_outside(self._parts):
            moved = [RenumberedPart.of(part, first_rows) for part in self._parts]
            return self._with_parts(moved, self._in_order)
        keys, counts, rows = self._joined()
        if callable(first_rows):
            first_rows = renumbered(read_only(rows), first_rows)
        entries = (keys, counts, np.asarray(first_rows, np.int64))
        return self._with_parts([entries], self._in_order)

    def packed_states(self, fetch: Fetch | None = None) -> U8Array:
        """Return the distinct packed states, aligned with the counts.

        Parameters
        ----------
        fetch : callable, optional
            Needed for states of more than 16 bytes, which the keys do not hold. It is called
            with ascending row numbers, (distinct,) int64, and returns these rows of what was
            counted: ``lambda rows: states[rows]`` for NumPy, ``states.oindex.__getitem__`` for
            Zarr.

        Returns
        -------
        (distinct, W) uint8

        Raises
        ------
        ValueError
            If states of more than 16 bytes are asked for without `fetch`, or the rows that it
            returns are not those that were counted.

        Examples
        --------
        >>> from tensorstate.counting import count_states
        >>> states = np.repeat(np.array([[1], [2], [1]], np.uint8), 20, axis=1)
        >>> histogram = count_states(states)
        >>> sorted(histogram.packed_states(lambda rows: states[rows])[:, 0].tolist())
        [1, 2]
        """
        keys, _, first_rows = self._joined()
        return packed_states(keys, first_rows, self._width, fetch)

    def save(self, store: StoreLike | zarr.Group, path: str = "") -> None:
        """Write the histogram in canonical order to a Zarr group, replacing what is there.

        Equal histograms give equal bytes. Chunks are compressed with LZ4 and carry a CRC-32C
        checksum. The group's attribute is written last: one that was cut short does not load.

        Parameters
        ----------
        store : path, URL, Zarr store or zarr.Group
            Where to write.
        path : str
            Name of the group within the store.

        Raises
        ------
        ValueError
            If the histogram is read from there, because it is larger than memory.
        """
        saving.save(
            self._canonical_chunks(saving.CHUNK_ENTRIES),
            store,
            path,
            width=self._width,
            distinct=self.distinct,
            total=self.total,
            origin=self.origin,
        )

    @classmethod
    def load(
        cls,
        store: StoreLike | zarr.Group,
        path: str = "",
        *,
        memory_limit: MemoryLimit = None,
        verify: bool = False,
    ) -> StateHistogram:
        """Read a histogram that `save` wrote.

        Parameters
        ----------
        store : path, URL, Zarr store or zarr.Group
            Where it was written.
        path : str
            Name of the group within the store.
        memory_limit : int, float or str, optional
            As for `count_states`. A histogram that takes a quarter of it or more stays where it
            is (`is_stored`): only its counts are read now, chunk by chunk, and it must not be
            changed or removed for as long as it is used.
        verify : bool
            Whether to read all of it now, also if it stays where it is, so that any damage is
            found now rather than when it is read.

        Returns
        -------
        StateHistogram
            In canonical order.

        Raises
        ------
        FileNotFoundError
            If there is no group.
        ValueError
            If the group is not a complete histogram of a known format, or a chunk is missing or
            fails its checksum. If it stays where it is, some of that shows when it is read.

        Examples
        --------
        >>> histogram = StateHistogram([3, 4], [10, 1], [0, 7], width=1)
        >>> store = {}
        >>> histogram.save(store)
        >>> StateHistogram.load(store) == histogram
        True
        >>> StateHistogram.load(store, memory_limit=100).is_stored
        True
        """
        saved = loading.open_saved(store, path)
        if fits(LOADED_SHARE * saved.nbytes, memory_limit):
            return cls.from_parts([saved.entries()], saved.width, in_order=True)
        parts, counted = saved.parts(verify)
        return cls.from_parts(parts, saved.width, in_order=True, spectrum=counted)
