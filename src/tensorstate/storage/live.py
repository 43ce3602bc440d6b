"""Counting the rows of a part while it is written, and dropping what was counted.

Rows are written and committed as always. When enough of them wait, they are counted and merged
with the histogram so far; that is stored beside it; one write makes it valid; and only then the
chunks are removed. Whenever the writer is killed, each committed row is either in the histogram or
in a chunk.
"""

from __future__ import annotations

from tensorstate.counting import count_here
from tensorstate.counting.keys import words_per_key
from tensorstate.storage.counted import CountedRows, entries_of
from tensorstate.storage.entry import HistogramEntry, remove_entries
from tensorstate.storage.increments import count_parts, counted_before
from tensorstate.storage.part import PartReader
from tensorstate.storage.part_writer import PartWriter

__all__ = ["LiveCounter"]

WAITING_CHUNKS = 16
"""So many chunks of rows wait at least before they are counted: to store a histogram takes longer
than to count one chunk."""


class LiveCounter:
    """Counts the rows of a part that are committed, in the thread that writes them.

    They wait until they take as much as the histogram that they are merged with: then all merges
    together take time in proportion to the rows.

    Parameters
    ----------
    part : PartWriter
        Where rows are appended.
    positions : int or None
        Rows of one instance; None if instances differ in them.
    where : str
        Names run, layer and part in an error.
    """

    def __init__(self, part: PartWriter, positions: int | None, where: str) -> None:
        self._part = part
        self._positions = positions
        self._where = where
        self._entries = entries_of(part.array)
        self._width = part.array.shape[1]
        self.clean()

    def clean(self) -> None:
        """Remove what a kill, or a reset of the part, has left of histograms and chunks."""
        self._counted = PartReader(self._part.array, self._where).counted
        self._remove_what_was_counted()

    def count_if_due(self, instances: int) -> None:
        """Count the first instances of the part, if enough of their rows are not counted yet."""
        enough = max(WAITING_CHUNKS * self._part.chunk_bytes, self._histogram_bytes)
        rows = enough // self._width
        # What is committed is known without reading where the instances end.
        if self._part.committed - self._counted.rows >= rows:
            self.count(instances, rows)

    def count(self, instances: int, least: int = 1) -> None:
        """Count the first instances of the part, which whatever happens stay committed.

        Parameters
        ----------
        instances : int
            How many.
        least : int
            Of how many rows that are not counted yet at least.

        Raises
        ------
        OSError
            If the histogram cannot be written, such as on a full disk, or what was counted before
            is damaged. Everything that was stored is as before.
        """
        part = [PartReader(self._part.array, self._where).first(instances, self._positions)]
        if len(part[0]) - self._counted.rows < least:
            return
        histogram = count_parts(part, *(counted_before(part) or ()), count=count_here)
        counted = CountedRows(HistogramEntry.write(self._entries, histogram), self._where)
        # Should this fail, nobody knows whether it was stored: the histogram stays, too.
        self._part.commit_counted(counted)
        self._counted = counted
        self._remove_what_was_counted()

    @property
    def _histogram_bytes(self) -> int:
        distinct = self._counted.entry.distinct if self._counted.entry else 0
        return distinct * (8 * words_per_key(self._width) + 16)

    def _remove_what_was_counted(self) -> None:
        """Remove chunks of counted rows, and histograms that are not valid (any more)."""
        self._part.drop_counted(self._counted)
        valid = self._counted.entry.name if self._counted.entry else ""
        remove_entries(self._entries, lambda name: name != valid)
