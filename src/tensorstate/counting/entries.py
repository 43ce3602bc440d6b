"""What a histogram holds: its entries, in memory or in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import dask.array as da
import numpy as np
import numpy.typing as npt

from tensorstate.counting.frequent import most_frequent
from tensorstate.counting.keys import U64Array, words_per_key
from tensorstate.counting.parts import Spectrum
from tensorstate.counting.pieces import Counted, I64Array, canonical_order, part_of
from tensorstate.counting.saving import CHUNK_ENTRIES
from tensorstate.counting.walk import (
    Part,
    are_outside,
    check_shapes,
    chunks_of,
    dask_arrays,
    distinct_of,
    in_canonical_order,
    in_turn,
    joined,
    loaded,
    total_of,
)

__all__ = ["Entries", "read_only"]


class Entries:
    """Distinct keys with their counts and first rows, one entry each.

    Parameters and errors are those of `tensorstate.counting.StateHistogram`, which adds what
    follows from the entries.
    """

    __hash__ = None  # type: ignore[assignment]
    _in_order = False
    _spectrum: Spectrum | None = None

    def __init__(
        self,
        keys: npt.ArrayLike,
        counts: npt.ArrayLike,
        first_rows: npt.ArrayLike,
        width: int,
    ) -> None:
        entries = (
            np.asarray(keys, np.uint64),
            np.asarray(counts, np.int64),
            np.asarray(first_rows, np.int64),
        )
        self._set([entries], width)

    @classmethod
    def from_parts(
        cls,
        parts: Sequence[Part],
        width: int,
        *,
        in_order: bool = False,
        spectrum: Spectrum | None = None,
    ) -> Self:
        """Make a histogram of parts that have no key in common.

        Parameters
        ----------
        parts : sequence of (keys, counts, first rows), or of LazyPart
            Arrays as the constructor takes them, joined when they are first asked for; or all
            in files, in the order of their ranges of the mixed hash.
        width : int
            Bytes of a packed state.
        in_order : bool
            Whether they are in canonical order as they are.
        spectrum : (times seen, number of states), optional
            Of all of them, where it is known and parts are in files.

        Returns
        -------
        StateHistogram
        """
        histogram = cls.__new__(cls)
        histogram._set(parts, width)
        histogram._in_order = in_order
        histogram._spectrum = spectrum
        return histogram

    def _set(self, parts: Sequence[Part], width: int) -> None:
        if width < 1:
            raise ValueError(f"packed states have at least one byte, not {width}")
        for part in parts:
            check_shapes(part, width)
        self._width = int(width)
        self._parts = list(parts)

    def _joined(self) -> Counted:
        if not self.is_stored:
            self._parts = [joined(self._parts, words_per_key(self._width))]
        return joined(self._parts, words_per_key(self._width))

    def _canonical_chunks(self, length: int) -> Iterator[Counted]:
        """Yield the entries in canonical order, `length` at a time; the rest comes last."""
        if not self._in_order:
            parts = self._parts if self.is_stored else [self._joined()]
            return chunks_of(in_canonical_order(parts, length), length)
        pieces = in_turn(self._parts) if are_outside(self._parts) else [self._joined()]
        return chunks_of(pieces, length)

    def most_frequent(self, number: int = 10) -> Self:
        """Return the states that were seen most often, as a histogram of these alone.

        Entries in files are read once, a part at a time.

        Parameters
        ----------
        number : int, default 10
            How many states; all if there are fewer.

        Returns
        -------
        StateHistogram
            The most frequent state first; of equally frequent ones, the one that was seen first.

        Raises
        ------
        ValueError
            If the number is not positive.

        Examples
        --------
        >>> from tensorstate.counting import count_states
        >>> top = count_states(np.array([[7], [0], [7], [5]], np.uint8)).most_frequent(2)
        >>> top.keys.tolist(), top.counts.tolist()
        ([7, 0], [2, 1])
        """
        if number < 1:
            raise ValueError(f"the most frequent states are at least one, not {number}")
        parts = self._parts if are_outside(self._parts) else [self._joined()]
        slices = (
            part_of(entries, start, start + CHUNK_ENTRIES)
            for entries in map(loaded, parts)
            for start in range(0, len(entries[1]), CHUNK_ENTRIES)
        )
        found = most_frequent(slices, number)
        return self.from_parts([] if found is None else [found], self._width)

    @property
    def is_stored(self) -> bool:
        """Whether the entries are in files, because they are larger than memory."""
        return are_outside(self._parts)

    @property
    def origin(self) -> str | None:
        """Where the histogram was saved, if it is read from there: None if nobody else has it."""
        return self._parts[0].origin if are_outside(self._parts) else None

    def to_dask(self) -> tuple[Any, Any, Any]:
        """Return keys, counts and first rows as Dask arrays, a chunk for each part.

        Returns
        -------
        keys : (distinct,) or (distinct, 2) uint64 dask.array.Array
        counts, first_rows : (distinct,) int64 dask.array.Array
            In the same order.

        Examples
        --------
        >>> from tensorstate.counting import count_states
        >>> keys, counts, first_rows = count_states(np.array([[7], [0], [7]], np.uint8)).to_dask()
        >>> int(counts.max().compute())
        2
        """
        if are_outside(self._parts):
            return dask_arrays(self._parts)
        keys, counts, rows = (da.from_array(read_only(array)) for array in self._joined())
        return keys, counts, rows

    @property
    def keys(self) -> U64Array:
        """Key words: (distinct,) uint64 for W <= 8, else (distinct, 2)."""
        return read_only(self._joined()[0])

    @property
    def counts(self) -> I64Array:
        """How often each state was seen: (distinct,) int64."""
        return read_only(self._joined()[1])

    @property
    def first_rows(self) -> I64Array:
        """The first row where each state was seen: (distinct,) int64."""
        return read_only(self._joined()[2])

    @property
    def width(self) -> int:
        """Bytes W of a packed state."""
        return self._width

    @property
    def distinct(self) -> int:
        """How many different states were seen."""
        return distinct_of(self._parts)

    @property
    def total(self) -> int:
        """How many states were counted."""
        return total_of(self._parts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entries):
            return NotImplemented
        if self._width != other._width or self.distinct != other.distinct:
            return False
        chunks = (part._canonical_chunks(CHUNK_ENTRIES) for part in (self, other))
        return all(
            np.array_equal(a, b)
            for mine, theirs in zip(*chunks, strict=True)
            for a, b in zip(mine, theirs, strict=True)
        )

    def __reduce__(self) -> Any:
        # Files that go with the histogram do not travel: what is in them does.
        parts = self._parts if self.origin else [self._joined()]
        return _restored, (type(self), parts, self._width, self._in_order, self._spectrum)

    def sorted(self) -> Self:
        """Return the same histogram in canonical order.

        That is ascending mixed hash of the key (`tensorstate.counting.keys.mixed_hash`), and
        ascending key words where two hashes are equal.

        Returns
        -------
        StateHistogram
            Itself if it is in this order already; if it is in files, one that sorts parts as it
            reads them; else one with arrays of its own.
        """
        if self._in_order:
            return self
        if are_outside(self._parts):
            stored = [replace(part, is_sorted=True) for part in self._parts]
            return self._with_parts(stored, in_order=True)
        keys, counts, rows = self._joined()
        order = canonical_order(keys)
        return self._with_parts([(keys[order], counts[order], rows[order])], in_order=True)

    def _with_parts(self, parts: Sequence[Part], in_order: bool) -> Self:
        """Return a histogram of the same counts."""
        return self.from_parts(parts, self._width, in_order=in_order, spectrum=self._spectrum)


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def _restored(
    kind: type[Entries], parts: Sequence[Part], width: int, in_order: bool, spectrum: Any
) -> Entries:
    return kind.from_parts(parts, width, in_order=in_order, spectrum=spectrum)
