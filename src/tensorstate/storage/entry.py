"""Histograms that are stored under names of their own, each with its spectrum beside it.

::

    histogram/20260102T030405-<unique>/      keys, counts, first_rows, spectrum

The first three are what `StateHistogram.save` writes.

What refers to an entry by its name, such as an attribute, makes it valid with one write.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from tensorstate.nodes import CHECKSUM, digest_of, read_array, read_group
from tensorstate.storage.arrays import read_found
from tensorstate.storage.stores import list_names

__all__ = ["HistogramEntry", "Spectrum", "is_entry_name", "is_older", "remove_entries"]

_NAME = re.compile("[0-9A-Za-z][0-9A-Za-z-]*")

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
    digests : tuple of str
        The checksum of the histogram, and the digest of the spectrum; empty if an earlier version
        stored it. With them, no other histogram is taken for it.
    """

    folder: StorePath
    name: str
    width: int
    distinct: int
    total: int
    digests: tuple[str, ...] = ()

    @classmethod
    def write(cls, folder: StorePath, histogram: StateHistogram) -> HistogramEntry:
        """Store a histogram under a new name; nothing is left of it if that fails."""
        name = f"{datetime.now(UTC).strftime(_STAMP)}-{uuid.uuid4().hex}"
        entry = cls(folder, name, histogram.width, histogram.distinct, histogram.total)
        try:
            histogram.save(entry.path)
            spectrum = np.stack(histogram.spectrum())
            entry._write_spectrum(spectrum)
            return replace(entry, digests=(entry._checksum(), digest_of(spectrum).hex()))
        except BaseException:
            entry.give_up()
            raise

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
        checksum = self._checksum()
        histogram = StateHistogram.load(self.path, memory_limit=memory_limit, verify=verify)
        found = (histogram.width, histogram.distinct, histogram.total)
        is_other = self.digests and checksum != self.digests[0]
        if is_other or found != (self.width, self.distinct, self.total):
            raise DamagedHistogramError(f"{self.path} holds another histogram than it should")
        return histogram

    def spectrum(self) -> Spectrum:
        """Read its spectrum alone; the errors are those of `load`."""
        path = self.path / "spectrum"
        array = read_array(path)
        if array is None:
            raise FileNotFoundError(f"there is no spectrum at {path}")
        # In one chunk, which is there: nothing is read as zeros, and room is made for no more.
        if array.ndim != 2 or array.shape != array.chunks:
            raise DamagedHistogramError(f"{path} is damaged, or incomplete")
        stored, found = read_found(array, 0, array.shape[0])
        if not found:
            raise DamagedHistogramError(f"{path} is damaged, or incomplete")
        times_seen, number_of_states = stored[0], stored[-1]
        sums = (int(number_of_states.sum()), int((times_seen * number_of_states).sum()))
        is_other = self.digests and digest_of(stored).hex() != self.digests[1]
        if is_other or sums != (self.distinct, self.total) or (stored < 1).any():
            raise DamagedHistogramError(f"{path} holds another spectrum than it should")
        return times_seen, number_of_states

    def _checksum(self) -> str:
        group = read_group(self.path)
        if group is None:
            raise FileNotFoundError(f"there is no histogram at {self.path}")
        return str(group.attrs.get(CHECKSUM, ""))

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


def is_entry_name(name: object) -> bool:
    """Whether something read from metadata names an entry, and no other place.

    Examples
    --------
    >>> is_entry_name("20260102T030405-0b1c"), is_entry_name("../part-0"), is_entry_name("")
    (True, False, False)
    """
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def remove_entries(folder: StorePath, chosen: Callable[[str], bool]) -> None:
    """Delete the entries, whether complete or not, whose names are chosen.

    Metadata beside them that were not written to their end go too. If another process is just
    writing them, its entry is not published: the one of who removes them is.
    """
    for name in list_names(folder):
        if name.endswith(".partial"):
            sync((folder / name).delete())  # metadata of which a kill left no more
        elif is_entry_name(name) and chosen(name):
            sync((folder / name).delete_dir())


def is_older(name: str, age: timedelta) -> bool:
    """Whether an entry of this name was begun longer ago than that."""
    return name[:8].isdigit() and name < (datetime.now(UTC) - age).strftime(_STAMP)
