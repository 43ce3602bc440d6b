"""Saved histograms: what they say of themselves is checked, and they are read chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass
from reprlib import repr as brief
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import StoreLike

from tensorstate.counting.keys import U64Array, changes, mixed_hash, words_per_key
from tensorstate.counting.parts import (
    DamagedHistogramError,
    LazyPart,
    Spectrum,
    out_of_order,
    spectrum_of_counts,
)
from tensorstate.counting.pieces import Counted, canonical_order
from tensorstate.counting.saved_chunks import read_all, read_chunk
from tensorstate.counting.saving import ATTRIBUTE, FORMAT, NAMES, address, place, tails
from tensorstate.counting.walk import sum_of_spectra
from tensorstate.nodes import (
    check_checksum,
    is_whole_number,
    read_array,
    read_group,
)

__all__ = ["Saved", "SavedPart", "is_canonical", "open_saved"]

LARGEST_CHUNK = 1 << 18
"""So many entries a chunk may have in format 1: one is in memory at a time."""

SPECTRA_AT_ONCE = 64

Arrays: TypeAlias = "tuple[zarr.Array[Any], zarr.Array[Any], zarr.Array[Any]]"


@dataclass(frozen=True)
class Saved:
    """A saved histogram whose metadata fit each other.

    Attributes
    ----------
    where : str
        Names it in an error.
    width : int
        Bytes of a packed state.
    distinct, total : int
        How many entries there are, and the sum of their counts.
    arrays : (keys, counts, first rows) as zarr.Array
        With chunks of as many entries each.
    digests : (keys, counts, first rows) as tuples of str
        Of each chunk; empty if an earlier version saved it.
    """

    where: str
    width: int
    distinct: int
    total: int
    arrays: Arrays
    digests: tuple[tuple[str, ...], ...]

    @property
    def nbytes(self) -> int:
        """How many bytes the entries take in memory."""
        return self.distinct * (8 * words_per_key(self.width) + 16)

    @property
    def chunks(self) -> int:
        """How many chunks each array has."""
        return -(-self.distinct // self.arrays[0].chunks[0])

    def entries(self) -> Counted:
        """Read all keys, counts and first rows.

        Raises
        ------
        DamagedHistogramError
            If they are not what was saved.
        """
        keys, counts, rows = map(read_all, self.arrays, self.digests)
        self._check_counts(int(counts.sum()), int(counts.min(initial=1)))
        if not is_canonical(keys):
            raise out_of_order(self.where)
        return keys, counts, rows

    def parts(self, verify: bool = False) -> tuple[list[SavedPart], Spectrum]:
        """Return a part for each chunk, and the spectrum of all; counts are read once for that.

        Parameters
        ----------
        verify : bool
            Whether to read all the rest too, so that any damage is found.

        Raises
        ------
        DamagedHistogramError
            If what was read is not what was saved.
        """
        parts: list[SavedPart] = []
        spectra: list[Spectrum] = []
        least, last = 1, None
        for chunk in range(self.chunks):
            counts = read_chunk(self.arrays[1], self.digests[1], chunk)
            least = min(least, int(counts.min()))
            spectra.append(spectrum_of_counts(counts))
            if len(spectra) == SPECTRA_AT_ONCE:
                spectra = [sum_of_spectra(spectra)]
            part = SavedPart(
                distinct=len(counts),
                total=int(counts.sum()),
                words=words_per_key(self.width),
                arrays=self.arrays,
                digests=self.digests,
                chunk=chunk,
            )
            if verify:
                keys = part.load()[0]
                if last is not None and not is_canonical(np.concatenate([last, keys[:1]])):
                    raise out_of_order(self.where)
                last = keys[-1:]
            parts.append(part)
        self._check_counts(sum(part.total for part in parts), least)
        return parts, sum_of_spectra(spectra)

    def _check_counts(self, total: int, least: int) -> None:
        if total != self.total or least < 1:
            raise DamagedHistogramError(
                f"{self.where} is damaged: it should hold {self.distinct} distinct of "
                f"{self.total} states, each seen at least "
                f"once, not of {total} and {least} times: count again"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedPart(LazyPart):
    """A chunk of a saved histogram, in canonical order as it is.

    Attributes
    ----------
    arrays : (keys, counts, first rows) as zarr.Array
        Of the whole histogram.
    digests : (keys, counts, first rows) as tuples of str
        Of all their chunks, if there are any.
    chunk : int
        Which one of theirs.
    """

    arrays: Arrays
    digests: tuple[tuple[str, ...], ...]
    chunk: int
    is_sorted: bool = True

    @property
    def origin(self) -> str:
        """Where the histogram was saved."""
        return address(self.arrays[0].store_path).rpartition("/")[0]

    def load(self) -> Counted:
        """Return keys, counts and first rows in memory.

        Raises
        ------
        DamagedHistogramError
            If they are not what was saved.
        """
        keys, counts, rows = map(self.column, range(3))
        if int(counts.sum()) != self.total:
            raise DamagedHistogramError(
                f"{self.origin} was changed after it was loaded: load it again"
            )
        if not is_canonical(keys):
            raise out_of_order(self.origin)
        return keys, counts, rows

    def column(self, number: int) -> npt.NDArray[Any]:
        """Return keys (0), counts (1) or first rows (2) in memory."""
        return read_chunk(self.arrays[number], self.digests[number], self.chunk)


def open_saved(store: StoreLike | zarr.Group, path: str) -> Saved:
    """Find a saved histogram and check its metadata; no entry is read.

    Parameters
    ----------
    store, path
        As for `StateHistogram.load`.

    Returns
    -------
    Saved

    Raises
    ------
    FileNotFoundError
        If there is no group.
    DamagedHistogramError
        If it does not hold a complete histogram of a known format.
    """
    found = place(store, path, mode="r")
    where = str(found)
    try:
        group = read_group(found)
    except ValueError as error:
        raise DamagedHistogramError(f"{error}: count again") from error
    if group is None:
        raise FileNotFoundError(f"there is no histogram at {where}")
    facts: Any = group.attrs.get(ATTRIBUTE)
    if not isinstance(facts, dict):
        raise DamagedHistogramError(f"{where} does not hold a complete histogram: count again")
    if facts.get("format") != FORMAT:
        raise DamagedHistogramError(
            f"{where} holds a histogram of format {facts.get('format')}, "
            f"and this version reads format {FORMAT}: update tensorstate"
        )
    width, distinct, total = (facts.get(name, -1) for name in ("width", "distinct", "total"))
    sound = all(map(is_whole_number, (width, distinct, total)))
    if not sound or width < 1 or distinct > total or (total and not distinct):
        raise DamagedHistogramError(
            f"{where} is damaged: it says {brief(facts)} of itself: count again"
        )
    keys, counts, rows = (
        _array(group, name, (distinct, *tail), dtype)
        for name, (tail, dtype) in zip(NAMES, tails(width), strict=True)
    )
    if not keys.chunks[0] == counts.chunks[0] == rows.chunks[0]:
        raise DamagedHistogramError(
            f"{where} is damaged: its arrays have chunks of different lengths: count again"
        )
    try:
        check_checksum("", group.attrs, where)
    except ValueError as error:
        raise DamagedHistogramError(f"{error}: count again") from error
    digests = _digests(facts.get("digests"), -(-distinct // keys.chunks[0]), where)
    return Saved(where, width, distinct, total, (keys, counts, rows), digests)


def _digests(facts: Any, chunks: int, where: str) -> tuple[tuple[str, ...], ...]:
    """Return the digests of the chunks of each array; none if an earlier version saved them."""
    if facts is None:
        return ((), (), ())
    try:
        found = [bytes.fromhex(facts[name]).hex(" ", 8).split() for name in NAMES]
    except (KeyError, TypeError, ValueError):
        found = []
    if [*map(len, found)] != [chunks] * 3:
        raise DamagedHistogramError(
            f"{where} is damaged: it lacks the digests of its {chunks} chunks: count again"
        )
    return tuple(map(tuple, found))


def _array(group: zarr.Group, name: str, shape: tuple[int, ...], dtype: str) -> zarr.Array[Any]:
    """Return an array of the group, if it is of this kind and in small enough chunks."""
    where = f"{group.store_path}/{name}"
    try:
        array = read_array(group.store_path / name)
    except ValueError as error:
        raise DamagedHistogramError(f"{where} is damaged: {error}: count again") from error
    if array is None or (array.shape, str(array.dtype)) != (shape, dtype):
        raise DamagedHistogramError(
            f"{where} is damaged: it should be {dtype} of the shape {shape}, not {array}: "
            "count again"
        )
    chunks, tail = array.chunks, shape[1:]
    if array.shards is not None or not 1 <= chunks[0] <= LARGEST_CHUNK or chunks[1:] != tail:
        raise DamagedHistogramError(
            f"{where} is damaged: it should have chunks of at most {LARGEST_CHUNK} entries, "
            f"not of the shape {array.shards or chunks}: count again"
        )
    return array


def is_canonical(keys: U64Array) -> bool:
    """Whether keys are all different, and ascend by mixed hash and then by words."""
    hashes = mixed_hash(keys)
    if (hashes[1:] > hashes[:-1]).all():
        return True
    order = canonical_order(keys)
    return bool((np.diff(order) == 1).all() and changes(keys).all())
