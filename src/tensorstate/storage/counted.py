"""The rows of a part that its writer counted and dropped, and the histogram in their place.

::

    part-0/states          attribute ``counted``: the name of the valid entry, and what it counts
    part-0/counted/        that entry (`HistogramEntry`)

The attribute is stored with the others of the part, in one document: which rows are committed and
how many of them are counted is always told together. Unlike the cache in the ``histogram`` of a
layer, the entry is all that is left of these rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from reprlib import repr as brief
from typing import Any, TypeVar

import zarr
from zarr.storage import StorePath

from tensorstate.counting import StateHistogram
from tensorstate.counting.memory import MemoryLimit
from tensorstate.nodes import DamagedMetadataError, is_whole_number
from tensorstate.storage.arrays import DamagedChunkError
from tensorstate.storage.entry import HistogramEntry, Spectrum, is_entry_name

__all__ = ["ATTRIBUTE", "CountedRows", "entries_of"]

ATTRIBUTE = "counted"

_T = TypeVar("_T")


@dataclass(frozen=True)
class CountedRows:
    """The first rows of a part, if its writer counted them.

    Attributes
    ----------
    entry : HistogramEntry or None
        Their histogram, with rows numbered as in the part; None if no row was counted yet.
    where : str
        Names run, layer and part in an error.
    """

    entry: HistogramEntry | None
    where: str

    @classmethod
    def of(cls, array: zarr.Array[Any], attributes: Mapping[str, Any], where: str) -> CountedRows:
        """Read the attribute of a part's states.

        Raises
        ------
        ValueError
            If it makes no sense.
        """
        facts: Any = attributes.get(ATTRIBUTE)
        if facts is None:
            return cls(None, where)
        try:
            name, rows, distinct = facts["entry"], facts["rows"], facts["distinct"]
            digests = tuple(facts.get("digests", ()))
            numbers = is_whole_number(distinct, 1) and is_whole_number(rows, distinct)
            sound = is_entry_name(name) and numbers and len(digests) in (0, 2)
        except (KeyError, TypeError, AttributeError):
            sound = False
        if not sound:
            raise DamagedMetadataError(
                f"{where} says {brief(facts)} of counted rows: its metadata is damaged"
            )
        width = array.shape[1]
        entry = HistogramEntry(entries_of(array), name, width, distinct, rows, digests)
        return cls(entry, where)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.entry.total if self.entry else 0

    def attribute(self) -> dict[str, Any] | None:
        """Return what `of` reads."""
        if self.entry is None:
            return None
        return {
            "entry": self.entry.name,
            "rows": self.rows,
            "distinct": self.entry.distinct,
            "digests": list(self.entry.digests),
        }

    def histogram(
        self, memory_limit: MemoryLimit = None, *, verify: bool = False
    ) -> StateHistogram:
        """Read the histogram; the arguments are those of `StateHistogram.load`.

        Raises
        ------
        DamagedChunkError
            If it is missing or damaged.
        """
        assert self.entry is not None
        entry = self.entry
        return self._read(lambda: entry.load(memory_limit, verify=verify))

    def spectrum(self) -> Spectrum:
        """Read the spectrum of the histogram; the errors are those of `histogram`."""
        assert self.entry is not None
        return self._read(self.entry.spectrum)

    def _read(self, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except (FileNotFoundError, ValueError, RuntimeError) as error:
            raise DamagedChunkError(
                f"{self.where}: the counts of its first {self.rows} rows, which took their place, "
                f"are missing or damaged ({error}); what was counted there is lost"
            ) from error


def entries_of(array: zarr.Array[Any]) -> StorePath:
    """Return where the histograms of a part are, beside its states."""
    path = array.store_path
    return StorePath(path.store, path.path.rpartition("/")[0]) / "counted"
