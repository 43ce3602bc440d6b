"""A digest of every committed chunk of a part, so that no chunk can take the place of another.

A chunk's own checksum does not tell that it is the chunk that was committed there, and not one of
another place, run or time. So a part has the XXH3-64 of the rows of each chunk, in an attribute
that is written in one piece with the number of committed rows::

    digests        {"of_piece": 256, "levels": ["<hex>", ...], "last": "<hex>"}

``levels[0]`` are the digests of chunks of which every row is committed, and ``last`` is that of the
committed rows of the chunk after them: whoever rewrites it with more rows does not change these.
So that a commit writes no more the longer a run takes, every 256 digests go to a file, a piece, and
its digest to the next level: a tree of which the attribute holds the unfinished nodes. Pieces are
written before the commit that tells of them, and never again::

    part-<writer>/digests/states/<level>/<piece>      256 digests of 8 bytes

The offsets of instances that differ in length have the same, in ``offsets_digests``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import StorePath

from tensorstate.nodes import digest_of, is_whole_number

__all__ = ["OF_PIECE", "ChunkDigests", "DigestsWriter", "no_digests"]

OF_PIECE = 256
"""Digests of a piece: 2 KiB, which is the most that a level takes in the metadata, twice in hex."""

_BYTES = 8
_MOST_HELD = 64


def no_digests() -> dict[str, Any]:
    """Return the attribute of a part that has no rows yet."""
    return {"of_piece": OF_PIECE, "levels": [], "last": ""}


@dataclass(frozen=True)
class ChunkDigests:
    """The digests of the chunks of an array, as one commit left them.

    Attributes
    ----------
    folder : StorePath
        Where the pieces are.
    length : int
        Rows of a chunk.
    rows : int
        Rows that are committed.
    of_piece : int
        Digests of a piece.
    levels : tuple of bytes
        Of each level, the digests that are in no piece yet.
    last : bytes
        The digest of the committed rows of the last chunk; empty if it is full, or there is none.
    """

    folder: StorePath
    length: int
    rows: int
    of_piece: int
    levels: tuple[bytes, ...]
    last: bytes
    _held: dict[tuple[int, int], bytes] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        array: zarr.Array[Any],
        attributes: Mapping[str, Any],
        name: str,
        rows: int,
        where: str,
    ) -> ChunkDigests | None:
        """Read the attribute; None if the part has none, as those of earlier versions.

        Parameters
        ----------
        array : zarr.Array
            Whose chunks these are.
        attributes : mapping
            Of the part's states.
        name : {"digests", "offsets_digests"}
            Which of them.
        rows : int
            Rows, or offsets, that are committed.
        where : str
            Names run, layer and part in an error.

        Raises
        ------
        ValueError
            If it does not fit the committed rows.
        """
        facts = attributes.get(name)
        if facts is None:
            return None
        length = array.chunks[0]
        try:
            of_piece = facts["of_piece"]
            levels = tuple(map(bytes.fromhex, facts["levels"]))
            last = bytes.fromhex(facts["last"])
            sound = is_whole_number(of_piece, 2)
        except (KeyError, TypeError, ValueError):
            sound = False
        if sound:
            expected = [_BYTES * (n % of_piece) for n in _counts(rows // length, of_piece)]
            sound = [*map(len, levels)] == expected and len(last) == _BYTES * bool(rows % length)
        if not sound:
            raise ValueError(
                f"{where} has {name} that do not fit its {rows} committed rows: "
                "its metadata is damaged"
            )
        folder, _, own = array.store_path.path.rpartition("/")
        place = StorePath(array.store_path.store, f"{folder}/digests/{own}")
        return cls(place, length, rows, of_piece, levels, last)

    def __getstate__(self) -> dict[str, Any]:
        # Pieces that were read are not sent along to every task.
        return {**self.__dict__, "_held": {}}

    def rows_of(self, chunk: int) -> range:
        """Return the committed rows of a chunk."""
        return range(chunk * self.length, min((chunk + 1) * self.length, self.rows))

    def check(self, chunk: int, rows: NDArray[Any]) -> None:
        """Raise ValueError unless a chunk, of which all rows are given, is what was committed.

        Rows after the committed ones may be given too, and are not looked at.
        """
        self.compare(chunk, digest_of(rows[: len(self.rows_of(chunk))]))

    def compare(self, chunk: int, found: bytes) -> None:
        """Raise ValueError unless the committed rows of a chunk have the digest that was found."""
        expected = self.digest(chunk)
        if found != expected:
            raise ValueError(
                f"its rows have the digest {found.hex()}, and {expected.hex()} was committed: they "
                "are whole, but of another place, run or time"
            )

    def digest(self, chunk: int) -> bytes:
        """Return the digest of a chunk of committed rows.

        Raises
        ------
        ValueError
            If the piece that has it is missing or damaged.
        """
        if chunk == self.rows // self.length:
            return self.last
        return self.entry(0, chunk)

    def entry(self, level: int, number: int) -> bytes:
        """Return a digest of a level: of a chunk, or of a piece of the level below."""
        count = self.rows // self.length // self.of_piece**level
        piece, place = divmod(number, self.of_piece)
        if piece == count // self.of_piece:
            entries = self.levels[level]
        else:
            entries = self._piece(level, piece)
        return entries[_BYTES * place : _BYTES * (place + 1)]

    def _piece(self, level: int, number: int) -> bytes:
        held = self._held.get((level, number))
        if held is not None:
            return held
        stored = sync((self.folder / f"{level}/{number}").get(default_buffer_prototype()))
        found = b"" if stored is None else stored.to_bytes()
        if xxhash.xxh3_64_digest(found) != self.entry(level + 1, number):
            raise ValueError(
                f"the digests that it is compared with are {'damaged' if found else 'missing'} "
                f"({self.folder.path}/{level}/{number})"
            )
        for oldest in list(self._held)[: len(self._held) - _MOST_HELD + 1]:
            self._held.pop(oldest, None)
        self._held[level, number] = found
        return found


class DigestsWriter:
    """Collects the digests of chunks as they are written.

    Parameters
    ----------
    stored : ChunkDigests
        Those that are there.
    rows : int
        How many of the committed rows stay; they are followed by others.
    last : bytes
        The digest of those in the last chunk, if it is not full.

    Raises
    ------
    ValueError
        If what is stored is damaged.
    """

    def __init__(self, stored: ChunkDigests, rows: int, last: bytes) -> None:
        self._folder = stored.folder
        self._length = stored.length
        self._of_piece = stored.of_piece
        self._committed = rows // self._length
        self._levels = [
            b"".join(stored.entry(level, n) for n in range(count - count % self._of_piece, count))
            for level, count in enumerate(_counts(self._committed, self._of_piece))
        ]
        self._waiting: list[bytes] = []
        self._last = last

    def add(self, rows: NDArray[Any]) -> None:
        """Take the rows of a full chunk; it follows the one before."""
        self._waiting.append(digest_of(rows))

    def commit(self, rows: int, last: bytes | None) -> None:
        """Store the pieces that are complete when so many rows are committed.

        `last` is the digest of those in the last chunk; None if they are as before.
        """
        chunks = rows // self._length
        while self._committed < chunks:
            self._committed += 1
            self._push(0, self._waiting.pop(0))
        self._last = self._last if last is None else last

    def attribute(self) -> dict[str, Any]:
        """Return what `ChunkDigests.of` reads."""
        levels = [level.hex() for level in self._levels]
        return {"of_piece": self._of_piece, "levels": levels, "last": self._last.hex()}

    def _push(self, level: int, digest: bytes) -> None:
        if level == len(self._levels):
            self._levels.append(b"")
        entries = self._levels[level] + digest
        if len(entries) == _BYTES * self._of_piece:
            number = self._committed // self._of_piece ** (level + 1) - 1
            path = self._folder / f"{level}/{number}"
            sync(path.set(default_buffer_prototype().buffer.from_bytes(entries)))
            self._push(level + 1, xxhash.xxh3_64_digest(entries))
            entries = b""
        self._levels[level] = entries


def _counts(chunks: int, of_piece: int) -> Iterable[int]:
    """Yield how many digests each level has, up to the last that has any."""
    while chunks:
        yield chunks
        chunks //= of_piece
