"""Parts of a result that is larger than memory: read, or merged, whenever they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorstate.counting import kernels
from tensorstate.counting.blocks import Counted, I64Array, canonical_order
from tensorstate.counting.keys import frozen
from tensorstate.counting.spill import SpillDirectory, Write

__all__ = ["OutsidePart", "StoredPart"]

MOST_BINS = 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False)
class OutsidePart:
    """Distinct keys, counts and first rows of a range of partitions, outside memory.

    Attributes
    ----------
    directory : SpillDirectory
        Where its files are. They are removed when no part refers to it any more.
    distinct : int
        How many keys it has.
    total : int
        Sum of their counts.
    words : int
        Words of a key.
    times_seen, number_of_states : (n,) int64
        The spectrum of its counts.
    is_sorted : bool
        Whether `load` brings the part into canonical order.
    """

    directory: SpillDirectory
    distinct: int
    total: int
    words: int
    times_seen: I64Array
    number_of_states: I64Array
    is_sorted: bool = False

    def load(self) -> Counted:
        """Return keys, counts and first rows in memory."""
        keys, counts, rows = self._entries()
        if self.is_sorted:
            order = canonical_order(keys)
            return keys[order], counts[order], rows[order]
        return keys, counts, rows

    def _entries(self) -> Counted:
        raise NotImplementedError


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
    """

    name: str
    offset: int
    count_type: str
    row_type: str

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
        write(keys)
        for values, kind in zip((counts, rows), kinds, strict=True):
            write(values.astype(kind))
            write(np.zeros(-len(values) * kind.itemsize % 8, np.uint8))
        return cls(
            directory=directory,
            name=name,
            offset=offset,
            count_type=kinds[0].str,
            row_type=kinds[1].str,
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
        keys = self._read(0, "<u8", self.words)
        return (
            keys if self.words == 1 else keys.reshape(-1, 2),
            self._read(1, self.count_type).astype(np.int64),
            self._read(2, self.row_type).astype(np.int64),
        )

    def _read(self, column: int, kind: str, per_entry: int = 1) -> npt.NDArray[Any]:
        content = np.empty(self.distinct * per_entry * np.dtype(kind).itemsize, np.uint8)
        self.directory.read(self.name, self.offset + self._places()[column], content)
        return content.view(kind)


def facts(counted: Counted) -> dict[str, Any]:
    """Return what every part knows of its entries: the arguments of `OutsidePart` but one."""
    keys, counts, _ = counted
    bins = np.zeros(MOST_BINS, np.int64)
    large = kernels.count_counts(frozen(counts), bins)
    times_seen = np.flatnonzero(bins)
    number_of_states = bins[times_seen]
    if large:
        more = np.unique(counts[counts >= MOST_BINS], return_counts=True)
        times_seen, number_of_states = np.concatenate([[times_seen, number_of_states], more], 1)
    return {
        "distinct": len(counts),
        "total": int(times_seen @ number_of_states),
        "words": 1 if keys.ndim == 1 else 2,
        "times_seen": times_seen.astype(np.int64),
        "number_of_states": number_of_states.astype(np.int64),
    }
