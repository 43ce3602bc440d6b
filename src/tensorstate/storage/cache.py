"""Counts that are kept in the run, so that nothing is counted twice.

::

    conv_1_states/histogram/             group: the attribute names the valid entry and its rows
      20260102T030405-<unique>/          keys, counts, first_rows (`StateHistogram.save`), spectrum

An entry is written under a name of its own and becomes valid with one write, of the attribute of
``histogram``: whoever reads meets a whole entry or none, however many processes write. What is
read is believed only if it is complete and fits the rows that it claims to cover; all of it may
be deleted at any time.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.group import GroupMetadata
from zarr.core.sync import sync
from zarr.storage import StorePath

from tensorstate.counting import StateHistogram
from tensorstate.counting.memory import MemoryLimit
from tensorstate.storage.increments import Coverage, coverage_of, is_covered_by
from tensorstate.storage.part import PartReader
from tensorstate.storage.stores import list_names

__all__ = ["HistogramCache"]

FORMAT = 1
ATTRIBUTE = "tensorstate_cache"
# An entry that was never published is what a killed process left.
ABANDONED = timedelta(days=1)
_STAMP = "%Y%m%dT%H%M%S"

Spectrum: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class _Published:
    """The attribute of the cache: which entry is valid, and what it holds."""

    entry: str
    parts: Coverage
    width: int
    distinct: int
    total: int


class HistogramCache:
    """The cached counts of one layer of a stored run.

    Reading gives None for anything that cannot be believed, and writing does nothing where
    nothing can be written: a cache saves work, and its loss is no error.

    Parameters
    ----------
    layer : StorePath
        The group of the layer.
    width : int
        Bytes of a packed state.
    writable : bool
        Whether it was left to us to write into the store.
    """

    def __init__(self, layer: StorePath, width: int, *, writable: bool = True) -> None:
        self._path = layer / "histogram"
        self._width = width
        self._writable = writable

    def load(
        self, coverage: Coverage, memory_limit: MemoryLimit = None
    ) -> tuple[Coverage, StateHistogram] | None:
        """Return what is cached of these rows, and a count of it; None if nothing is.

        A count that is larger than the limit allows (see `StateHistogram.load`) was read once, so
        that it can be believed. It stays in the cache: `origin` tells, and it is gone when it is
        replaced there.
        """
        # Anything may lie there, so that anything may go wrong.
        with contextlib.suppress(Exception):
            published = self._published()
            if published is not None and is_covered_by(published.parts, coverage):
                return published.parts, self._histogram(published, memory_limit)
        return None

    def load_spectrum(self, coverage: Coverage) -> Spectrum | None:
        """Return the cached spectrum of exactly these rows; None if there is none."""
        with contextlib.suppress(Exception):
            published = self._published()
            if published is not None and _same(published.parts, coverage):
                return self._spectrum(published)
        return None

    def save(self, parts: Sequence[PartReader], histogram: StateHistogram) -> None:
        """Cache the count of all rows of these parts, if that is possible and of use."""
        if not self._writable:
            return
        coverage = coverage_of(parts)
        before = None
        with contextlib.suppress(Exception):
            before = self._published()
        if not is_covered_by(coverage, coverage) or (before and _is_ahead(before.parts, coverage)):
            return
        stamp = datetime.now(UTC).strftime(_STAMP)
        published = _Published(
            entry=f"{stamp}-{uuid.uuid4().hex}",
            parts=coverage,
            width=histogram.width,
            distinct=histogram.distinct,
            total=histogram.total,
        )
        path = StorePath(self._path.store, self._path.path)
        try:
            if path.store.read_only:
                path = StorePath(path.store.with_read_only(False), path.path)
            # A run that was overwritten meanwhile is not to find an entry of the old one.
            if all(part.is_current() for part in parts):
                _write_entry(path, published.entry, histogram)
                _publish(path, published)
        # Stores have errors of their own for what they cannot do.
        except Exception:
            _remove(path, published.entry)
        except BaseException:
            _remove(path, published.entry)
            raise
        else:
            for entry in _outdated(path, before, published):
                _remove(path, entry)

    def _published(self) -> _Published | None:
        group = zarr.open_group(self._path, mode="r", zarr_format=3)
        facts: Any = group.attrs.get(ATTRIBUTE)
        if (
            not isinstance(facts, dict)
            or facts["format"] != FORMAT
            or facts["width"] != self._width
        ):
            return None
        parts = tuple((str(part["uuid"]), int(part["rows"])) for part in facts["parts"])
        total = int(facts["total"])
        if total != sum(rows for _, rows in parts):
            return None
        return _Published(str(facts["entry"]), parts, self._width, int(facts["distinct"]), total)

    def _histogram(self, published: _Published, memory_limit: MemoryLimit) -> StateHistogram:
        path = self._path / published.entry
        group = zarr.open_group(path, mode="r", zarr_format=3)
        histogram = StateHistogram.load(group, memory_limit=memory_limit, verify=True)
        found = (histogram.width, histogram.distinct, histogram.total)
        if found != (published.width, published.distinct, published.total):
            raise ValueError(f"{path} holds another histogram than the cache says")
        return histogram

    def _spectrum(self, published: _Published) -> Spectrum:
        path = self._path / published.entry / "spectrum"
        stored = np.asarray(zarr.open_array(path, mode="r", zarr_format=3)[...])
        times_seen, number_of_states = stored
        # A chunk that is missing would be read as zeros, and is noticed here.
        sums = (int(number_of_states.sum()), int((times_seen * number_of_states).sum()))
        if sums != (published.distinct, published.total) or (stored < 1).any():
            raise ValueError(f"{path} holds another spectrum than the cache says")
        return times_seen, number_of_states


def _same(covered: Coverage, coverage: Coverage) -> bool:
    return covered == coverage and is_covered_by(covered, coverage)


def _is_ahead(covered: Coverage, coverage: Coverage) -> bool:
    """Whether `covered` is worth more: the same parts, with later rows."""
    return covered != coverage and is_covered_by(coverage, covered)


def _write_entry(path: StorePath, entry: str, histogram: StateHistogram) -> None:
    histogram.save(path / entry)
    spectrum = np.stack(histogram.spectrum())
    array = zarr.create_array(
        path / entry,
        name="spectrum",
        shape=spectrum.shape,
        dtype=spectrum.dtype,
        chunks=(2, max(spectrum.shape[1], 1)),
        compressors=[BloscCodec(cname="lz4", shuffle="noshuffle"), Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    if spectrum.size:
        array[...] = spectrum


def _publish(path: StorePath, published: _Published) -> None:
    facts: dict[str, Any] = {
        "format": FORMAT,
        "entry": published.entry,
        "parts": [{"uuid": part, "rows": rows} for part, rows in published.parts],
        "width": published.width,
        "distinct": published.distinct,
        "total": published.total,
    }
    # The document is written as a whole, and not read before: what is there may be damaged.
    documents = GroupMetadata(attributes={ATTRIBUTE: facts}).to_buffer_dict(
        default_buffer_prototype()
    )
    for name, document in documents.items():
        sync((path / name).set(document))


def _outdated(path: StorePath, before: _Published | None, published: _Published) -> list[str]:
    """Return the entry that was replaced, and those that nobody will publish any more."""
    with contextlib.suppress(Exception):
        oldest = (datetime.now(UTC) - ABANDONED).strftime(_STAMP)
        entries = [name for name in list_names(path) if name != published.entry]
        replaced = before.entry if before else ""
        return [
            name for name in entries if name == replaced or (name[:8].isdigit() and name < oldest)
        ]
    return []


def _remove(path: StorePath, entry: str) -> None:
    with contextlib.suppress(Exception):
        sync((path / entry).delete_dir())
