"""Parts of a result that is larger than memory: read, or merged, whenever they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from tensorstate.counting import kernels
from tensorstate.counting.keys import frozen
from tensorstate.counting.pieces import Counted, I64Array, canonical_order
from tensorstate.counting.spill import SpillDirectory, Write

__all__ = [
    "DamagedHistogramError",
    "LazyPart",
    "OutsidePart",
    "RenumberedPart",
    "Spectrum",
    "StoredPart",
]

Spectrum: TypeAlias = tuple[I64Array, I64Array]
"""The counts that occur, ascending, and how many states have each."""

MOST_BINS = 1 << 16


class DamagedHistogramError(ValueError):
    """A saved histogram is not what was written."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LazyPart:
    """Distinct keys, counts and first rows of a range of the mixed hash, outside memory.

    Attributes
    ----------
    distinct : int
        How many keys it has, at least one.
    total : int
        Sum of their counts.
    words : int
        Words of a key.
    is_sorted : bool
        Whether `load` brings the part into canonical order.
    """

    distinct: int
    total: int
    words: int
    is_sorted: bool = False

    @property
    def origin(self) -> str | None:
        """Where it is read from, if that is not its own: a copy elsewhere can read it too."""
        return None

    def load(self) -> Counted:
        """Return keys, counts and first rows in memory."""
        keys, counts, rows = self._entries()
        if self.is_sorted:
            order = canonical_order(keys)
            return keys[order], counts[order], rows[order]
        return keys, counts, rows

    def column(self, number: int) -> npt.NDArray[Any]:
        """Return keys (0), counts (1) or first rows (2) in memory."""
        return self.load()[number]

    def spectrum(self) -> Spectrum:
        """Return the spectrum of the counts."""
        return spectrum_of_counts(self.column(1))

    def _entries(self) -> Counted:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, eq=False)
class OutsidePart(LazyPart):
    """A part that is in the files of one count or merge.

    Attributes
    ----------
    directory : SpillDirectory
        Where its files are. They are removed when no part refers to it any more.
    times_seen, number_of_states : (n,) int64
        The spectrum of its counts.
    """

    directory: SpillDirectory
    times_seen: I64Array
    number_of_states: I64Array

    def spectrum(self) -> Spectrum:
        """Return the spectrum of the counts, which is known."""
        return self.times_seen, self.number_of_states


@dataclass(frozen=True, kw_only=True, eq=False)
class RenumberedPart(LazyPart):
    """A part with other first rows.

    Attributes
    ----------
    source : LazyPart
        Where the entries come from.
    renumber : callable
        Called with first rows, (n,) int64, it returns those that take their places.
    """

    source: LazyPart
    renumber: Callable[[I64Array], npt.ArrayLike]

    @classmethod
    def of(cls, source: LazyPart, renumber: Callable[[I64Array], npt.ArrayLike]) -> RenumberedPart:
        """Return `source` with other first rows."""
        return cls(
            distinct=source.distinct,
            total=source.total,
            words=source.words,
            source=source,
            renumber=renumber,
        )

    @property
    def origin(self) -> str | None:
        """Where the source is read from."""
        return self.source.origin

    def spectrum(self) -> Spectrum:
        """Return the spectrum of the counts."""
        return self.source.spectrum()

    def _entries(self) -> Counted:
        keys, counts, rows = self.source.load()
        return keys, counts, renumbered(rows, self.renumber)


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredPart(OutsidePart):
    """A part that lies in a file: keys, counts and first rows one after the other.

    Counts and rows have the smallest type that holds them, and are padded to eight bytes.

    Attributes
    ----------
    name : str
        The file.
    offset : int
        Where the part begins, in bytes.
    count_type, row_type : str
        NumPy's names of the types of counts and of first rows.
    digest : int
        The XXH3-64 of keys, counts and rows.
    """

    name: str
    offset: int
    count_type: str
    row_type: str
    digest: int

    @classmethod
    def write(
        cls, counted: Counted, directory: SpillDirectory, name: str, offset: int, write: Write
    ) -> StoredPart:
        """Write a part where `offset` bytes were written before.

        Parameters
        ----------
        counted : (keys, counts, first rows)
            At least one of each.
        directory, name, offset
            As the attributes.
        write : callable
            Appends to that file.

        Returns
        -------
        StoredPart
        """
        keys, counts, rows = counted
        kinds = [np.min_scalar_type(int(values.max())) for values in (counts, rows)]
        columns = [keys, *map(np.ndarray.astype, (counts, rows), kinds)]
        write(keys)
        for values, kind in zip(columns[1:], kinds, strict=True):
            write(values)
            write(np.zeros(-len(values) * kind.itemsize % 8, np.uint8))
        return cls(
            directory=directory,
            name=name,
            offset=offset,
            count_type=kinds[0].str,
            row_type=kinds[1].str,
            digest=_digest(columns),
            **facts(counted),
        )

    @property
    def size(self) -> int:
        """How many bytes it takes in the file."""
        return self._places()[-1]

    def _places(self) -> list[int]:
        """Return where keys, counts and rows begin, after the offset, and where they end."""
        places = [0]
        for kind, count in (("<u8", self.words), (self.count_type, 1), (self.row_type, 1)):
            end = places[-1] + np.dtype(kind).itemsize * count * self.distinct
            places.append(end + -end % 8)
        return places

    def _entries(self) -> Counted:
        keys, counts, rows = columns = [
            self._read(0, "<u8", self.words),
            self._read(1, self.count_type),
            self._read(2, self.row_type),
        ]
        if _digest(columns) != self.digest:
            raise self.directory.damaged(self.name)
        keys = keys if self.words == 1 else keys.reshape(-1, 2)
        return keys, counts.astype(np.int64), rows.astype(np.int64)

    def _read(self, column: int, kind: str, per_entry: int = 1) -> npt.NDArray[Any]:
        content = np.empty(self.distinct * per_entry * np.dtype(kind).itemsize, np.uint8)
        self.directory.read(self.name, self.offset + self._places()[column], content)
        return content.view(kind)


def _digest(columns: Iterable[npt.NDArray[Any]]) -> int:
    digest = xxhash.xxh3_64()
    for values in columns:
        digest.update(np.ascontiguousarray(values).data)
    return digest.intdigest()


def facts(counted: Counted) -> dict[str, Any]:
    """Return what every part in files knows of its entries, for the constructor."""
    keys, counts, _ = counted
    times_seen, number_of_states = spectrum_of_counts(counts)
    return {
        "distinct": len(counts),
        "total": int(times_seen @ number_of_states),
        "words": 1 if keys.ndim == 1 else 2,
        "times_seen": times_seen,
        "number_of_states": number_of_states,
    }


def spectrum_of_counts(counts: I64Array) -> Spectrum:
    """Return the spectrum of at least one count, fast where all are small."""
    bins = np.zeros(MOST_BINS, np.int64)
    if kernels.count_counts(frozen(counts), bins):
        times_seen, number_of_states = np.unique(counts, return_counts=True)
    else:
        times_seen = np.flatnonzero(bins)
        number_of_states = bins[times_seen]
    return times_seen.astype(np.int64), number_of_states.astype(np.int64)


def renumbered(rows: I64Array, renumber: Callable[[I64Array], npt.ArrayLike]) -> I64Array:
    """Return what `renumber` makes of first rows; raise ValueError if it is not as many."""
    found = np.asarray(renumber(rows), np.int64)
    if found.shape != rows.shape:
        raise ValueError(
            f"the function for new first rows returned the shape {found.shape} for {rows.shape}: "
            "it must return one number for each"
        )
    return found


def out_of_order(where: str) -> DamagedHistogramError:
    """Return the error for entries that are not in canonical order."""
    return DamagedHistogramError(
        f"{where} is damaged: its entries are not in canonical order: count again"
    )
