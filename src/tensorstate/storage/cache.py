"""Counts that are kept in the run, so that nothing is counted twice.

::

    conv_1_states/histogram/             group: the attribute names the valid entry and its rows
      20260102T030405-<unique>/          keys, counts, first_rows (`StateHistogram.save`), spectrum

An entry is written under a name of its own and becomes valid with one write, of the attribute of
``histogram``: whoever reads meets a whole entry or none, however many processes write. What is
read is believed only if it is what was written and fits the rows that it claims to cover; all of it
may be deleted at any time. What is damaged is counted again, with a warning.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from reprlib import repr as brief
from typing import Any, TypeVar

from zarr.core.buffer import default_buffer_prototype
from zarr.core.group import GroupMetadata
from zarr.core.sync import sync
from zarr.storage import StorePath

from tensorstate.counting import StateHistogram
from tensorstate.counting.memory import MemoryLimit
from tensorstate.nodes import check_checksum, read_group, with_checksum
from tensorstate.storage.entry import (
    HistogramEntry,
    Spectrum,
    is_entry_name,
    is_older,
    remove_entries,
)
from tensorstate.storage.increments import Coverage, coverage_of, is_covered_by
from tensorstate.storage.part import PartReader
from tensorstate.storage.stores import to_write

__all__ = ["HistogramCache"]

FORMAT = 1
ATTRIBUTE = "tensorstate_cache"
# An entry that was never published is what a killed process left.
ABANDONED = timedelta(days=1)

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Published:
    """The attribute of the cache: which entry is valid, and what it covers."""

    entry: HistogramEntry
    parts: Coverage


class HistogramCache:
    """The cached counts of one layer of a stored run.

    Reading gives None for anything that cannot be believed, with a RuntimeWarning if it is damaged,
    and writing does nothing where nothing can be written: a cache saves work, and its loss is no
    error.

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

        def read(published: _Published) -> tuple[Coverage, StateHistogram]:
            return published.parts, published.entry.load(memory_limit, verify=True)

        return self._read(lambda covered: is_covered_by(covered, coverage), read)

    def load_spectrum(self, coverage: Coverage) -> Spectrum | None:
        """Return the cached spectrum of exactly these rows; None if there is none."""
        return self._read(
            lambda covered: _same(covered, coverage), lambda published: published.entry.spectrum()
        )

    def _read(
        self, fits: Callable[[Coverage], bool], read: Callable[[_Published], _T]
    ) -> _T | None:
        """Return what `read` makes of the valid entry, if that fits and is whole."""
        published = None
        # Anything may lie there, so that anything may go wrong.
        try:
            published = self._published()
            return read(published) if published and fits(published.parts) else None
        except Exception as error:
            if not self._was_replaced(published):
                warnings.warn(
                    f"the cached counts in {self._path} are damaged or cannot be read, and are "
                    f"counted again: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return None

    def _was_replaced(self, published: _Published | None) -> bool:
        """Whether an entry is not valid any more, so that it may be cut short or gone."""
        if published is None:
            return False
        try:
            return self._published() != published
        except Exception:
            return False

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
        path = StorePath(self._path.store, self._path.path)
        # Stores have errors of their own for what they cannot do.
        with contextlib.suppress(Exception):
            path = to_write(path)
            # A run that was overwritten meanwhile is not to find an entry of the old one.
            if all(part.is_current() for part in parts):
                entry = HistogramEntry.write(path, histogram)
                try:
                    _publish(entry, coverage)
                except BaseException:
                    entry.give_up()
                    raise
                replaced = before.entry.name if before else ""
                remove_entries(path, partial(_is_outdated, valid=entry.name, replaced=replaced))

    def _published(self) -> _Published | None:
        group = read_group(self._path)
        if group is None:
            return None
        check_checksum("", group.attrs, str(self._path))
        facts: Any = group.attrs.get(ATTRIBUTE)
        if facts is None or facts["format"] != FORMAT or facts["width"] != self._width:
            return None
        parts = tuple((str(part["uuid"]), int(part["rows"])) for part in facts["parts"])
        total = int(facts["total"])
        if total != sum(rows for _, rows in parts):
            return None
        name, distinct = facts["entry"], int(facts["distinct"])
        if not is_entry_name(name):
            raise ValueError(f"it names the entry {brief(name)}")
        digests = tuple(facts.get("digests", ()))
        entry = HistogramEntry(self._path, name, self._width, distinct, total, digests)
        return _Published(entry, parts)


def _same(covered: Coverage, coverage: Coverage) -> bool:
    return covered == coverage and is_covered_by(covered, coverage)


def _is_ahead(covered: Coverage, coverage: Coverage) -> bool:
    """Whether `covered` is worth more: the same parts, with later rows."""
    return covered != coverage and is_covered_by(coverage, covered)


def _publish(entry: HistogramEntry, parts: Coverage) -> None:
    facts: dict[str, Any] = {
        "format": FORMAT,
        "entry": entry.name,
        "parts": [{"uuid": part, "rows": rows} for part, rows in parts],
        "width": entry.width,
        "distinct": entry.distinct,
        "total": entry.total,
        "digests": list(entry.digests),
    }
    # The document is written as a whole, and not read before: what is there may be damaged.
    attributes = with_checksum("", {ATTRIBUTE: facts})
    documents = GroupMetadata(attributes=attributes).to_buffer_dict(default_buffer_prototype())
    for name, document in documents.items():
        sync((entry.folder / name).set(document))


def _is_outdated(name: str, valid: str, replaced: str) -> bool:
    """Whether an entry was replaced, or is one that nobody will publish any more."""
    return name != valid and (name == replaced or is_older(name, ABANDONED))
