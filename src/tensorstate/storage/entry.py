"""Histograms that are stored under names of their own, each with its spectrum beside it.

::

    histogram/20260102T030405-<unique>/      keys, counts, first_rows, spectrum

The first three are what `StateHistogram.save` writes.

What refers to an entry by its name, such as an attribute, makes it valid with one write.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.sync import sync
from zarr.storage import StorePath

from tensorstate.counting import StateHistogram
from tensorstate.counting.memory import MemoryLimit
from tensorstate.counting.parts import DamagedHistogramError
from tensorstate.storage.stores import list_names

__all__ = ["HistogramEntry", "Spectrum", "is_older", "remove_entries"]

_STAMP = "%Y%m%dT%H%M%S"

Spectrum: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class HistogramEntry:
    """A stored histogram.

    Attributes
    ----------
    folder : StorePath
        Where entries are.
    name : str
        Its own name, which begins with the time when it was written.
    width : int
        Bytes of a packed state.
    distinct, total : int
        How many states it tells apart, and how many it counted.
    """

    folder: StorePath
    name: str
    width: int
    distinct: int
    total: int

    @classmethod
    def write(cls, folder: StorePath, histogram: StateHistogram) -> HistogramEntry:
        """Store a histogram under a new name; nothing is left of it if that fails."""
        name = f"{datetime.now(UTC).strftime(_STAMP)}-{uuid.uuid4().hex}"
        entry = cls(folder, name, histogram.width, histogram.distinct, histogram.total)
        try:
            histogram.save(entry.path)
            entry._write_spectrum(np.stack(histogram.spectrum()))
        except BaseException:
            entry.give_up()
            raise
        return entry

    @property
    def path(self) -> StorePath:
        """Where it is."""
        return self.folder / self.name

    def load(self, memory_limit: MemoryLimit = None, *, verify: bool = False) -> StateHistogram:
        """Read it; the arguments are those of `StateHistogram.load`.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        DamagedHistogramError
            If it is not what was stored.
        """
        group = zarr.open_group(self.path, mode="r", zarr_format=3)
        histogram = StateHistogram.load(group, memory_limit=memory_limit, verify=verify)
        found = (histogram.width, histogram.distinct, histogram.total)
        if found != (self.width, self.distinct, self.total):
            raise DamagedHistogramError(f"{self.path} holds another histogram than it should")
        return histogram

    def spectrum(self) -> Spectrum:
        """Read its spectrum alone; the errors are those of `load`."""
        path = self.path / "spectrum"
        stored = np.asarray(zarr.open_array(path, mode="r", zarr_format=3)[...])
        times_seen, number_of_states = stored
        # A chunk that is missing would be read as zeros, and is noticed here.
        sums = (int(number_of_states.sum()), int((times_seen * number_of_states).sum()))
        if sums != (self.distinct, self.total) or (stored < 1).any():
            raise DamagedHistogramError(f"{path} holds another spectrum than it should")
        return times_seen, number_of_states

    def give_up(self) -> None:
        """Delete it, after an error that matters more than whether this can be done."""
        with contextlib.suppress(Exception):
            sync(self.path.delete_dir())

    def _write_spectrum(self, spectrum: NDArray[np.int64]) -> None:
        array = zarr.create_array(
            self.path,
            name="spectrum",
            shape=spectrum.shape,
            dtype=spectrum.dtype,
            chunks=(2, max(spectrum.shape[1], 1)),
            compressors=[BloscCodec(cname="lz4", shuffle="noshuffle"), Crc32cCodec()],
            config={"write_empty_chunks": True},
        )
        if spectrum.size:
            array[...] = spectrum


def remove_entries(folder: StorePath, chosen: Callable[[str], bool]) -> None:
    """Delete the entries, whether complete or not, whose names are chosen."""
    for name in list_names(folder):
        if name != "zarr.json" and chosen(name):
            sync((folder / name).delete_dir())


def is_older(name: str, age: timedelta) -> bool:
    """Whether an entry of this name was begun longer ago than that."""
    return name[:8].isdigit() and name < (datetime.now(UTC) - age).strftime(_STAMP)
