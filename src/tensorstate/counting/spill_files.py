"""Spill files, which map tasks write and merge tasks read.

A spill file holds the pieces of one block, at most two, each laid partition by partition, so that
a range of partitions is one read of each of its columns:

    facts: (2, 3) int64, of each piece: keys, whether it has counts, number to add to rows
    index: (partitions + 1, 4) uint64, see below
    piece: keys | counts, if any | rows
    ...

Counts and rows are uint32. Each array is padded to a multiple of 4,096 bytes.

A row of the index has where a partition starts in each piece, the digest of its entries, and a
seal: a digest of these three, of the number of the partition, of the facts and of the names of
directory and file. Nothing of a file is believed, and no room is made for it, before its seal is
checked; entries are counted after their digest is: a file that was damaged, or that took the place
of another, is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from tensorstate.compiled import kernel
from tensorstate.counting.files import Request
from tensorstate.counting.keys import U64Array, frozen, hash_at
from tensorstate.counting.pages import BLOCK, blocks
from tensorstate.counting.pieces import I64Array, Piece, Scratch
from tensorstate.counting.spill import SpillDirectory
from tensorstate.intrinsics import folded_product

__all__ = ["INDEX_BYTES", "SpillFile", "write_pieces"]

MOST_PIECES = 2
INDEX_BYTES = 32
"""Of each partition in the index of a file."""

_DIGEST, _SEAL = MOST_PIECES, MOST_PIECES + 1
# Odd constants with about as many ones as zeros, as for the mixed hash.
_XOR = np.uint64(0x8EBC6AF09C88C6E3)
_MULTIPLY = np.uint64(0x589965CC75374CC3)


@kernel
def add_digests(
    keys: Any, counts: Any, rows: Any, is_counted: bool, piece: int, starts: Any, digests: Any
) -> None:
    """Add to the digest of each partition what tells the entries of a piece from others.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Laid partition by partition.
    counts, rows : (n,) uint32
        Of each key; counts are not looked at, and taken for 1, unless `is_counted`.
    is_counted : bool
        Whether there are counts.
    piece : int
        Number of the piece.
    starts : (partitions + 1,) int64
        Where the partitions start.
    digests : (partitions,) uint64
        Added to: the sum of ``fold((hash ^ (count << 32 | row) ^ salt) * 589965CC75374CC3)``, with
        the mixed hash of the key, and fold as there; it does not depend on the order.
    """
    salt = _XOR * (np.uint64(piece) + np.uint64(1))
    for p in range(len(digests)):
        digest = digests[p]
        for i in range(np.uint64(starts[p]), np.uint64(starts[p + 1])):
            count = np.uint64(1)
            if is_counted:
                count = np.uint64(counts[i])
            entry = count << np.uint64(32) | np.uint64(rows[i])
            digest += folded_product(hash_at(keys, i) ^ entry ^ salt, _MULTIPLY)
        digests[p] = digest


@kernel
def find_seals(index: Any, first: int, seed: int, seals: Any) -> None:
    """Fill `seals` with those of rows of the index, the first of them of partition `first`."""
    for i in range(len(seals)):
        seal = seed ^ (np.uint64(first + i) * _MULTIPLY)
        for column in range(_SEAL):
            seal = folded_product(seal ^ index[i, column] ^ _XOR, _MULTIPLY)
        seals[i] = seal


def write_pieces(
    directory: SpillDirectory,
    name: str,
    pieces: Sequence[Piece],
    partitions: int,
    disk: AbstractContextManager[Any],
) -> None:
    """Write the pieces of a block as one spill file.

    Parameters
    ----------
    directory : SpillDirectory
        Where.
    name : str
        Name of the file.
    pieces : sequence of Piece
        At most two, of one chunk each, in the order of their rows.
    partitions : int
        How many partitions they have.
    disk : context manager
        Entered to write, when all is worked out.
    """
    index = np.zeros((partitions + 1, MOST_PIECES + 2), np.uint64)
    facts = np.zeros((MOST_PIECES, 3), np.int64)
    digests = np.zeros(partitions, np.uint64)
    columns: list[npt.NDArray[Any]] = [facts, index]
    for number, piece in enumerate(pieces):
        index[:, number] = piece.starts[0]
        facts[number] = len(piece.keys), piece.counts is not None, piece.add[0]
        counts = None if piece.counts is None else piece.counts.astype(np.uint32, copy=False)
        short = Piece(
            piece.keys, counts, piece.rows.astype(np.uint32, copy=False), piece.starts, piece.add
        )
        _digest(short, number, digests)
        columns += [short.keys, *([] if counts is None else [counts]), short.rows]
    index[:-1, _DIGEST] = digests
    index[:, _SEAL] = _seals(index, 0, facts, directory, name)
    with disk, directory.writing(name) as write:
        for column in columns:
            write(column)
            write(np.zeros(-column.nbytes % BLOCK, np.uint8))


def _digest(piece: Piece, number: int, digests: U64Array) -> None:
    counts = piece.rows if piece.counts is None else piece.counts
    arrays = [frozen(array) for array in (piece.keys, counts, piece.rows)]
    is_counted = piece.counts is not None
    add_digests(*arrays, is_counted, number, frozen(piece.starts[0]), digests)


def _seals(
    index: U64Array, first: int, facts: I64Array, directory: SpillDirectory, name: str
) -> U64Array:
    """Return the seals that rows of an index should have, the first of them of `first`."""
    named = f"{directory.identity}/{name}".encode()
    seed = np.uint64(xxhash.xxh3_64_intdigest(named + facts.tobytes()))
    seals = np.empty(len(index), np.uint64)
    find_seals(frozen(index), first, seed, seals)
    return seals


@dataclass(frozen=True)
class SpillFile:
    """What a task must know to read a range of partitions from a spill file.

    Attributes
    ----------
    name : str
        Name within the directory.
    words : int
        Words of a key.
    partitions : int
        How many partitions it has.
    first : int
        The first that `starts` tells of.
    starts : (2, n + 1) int64
        Where the partitions of each piece start.
    digests : (n,) uint64
        Of the entries of each partition, in all pieces.
    facts : (2, 3) int64
        As the file has them.
    """

    name: str
    words: int
    partitions: int
    first: int
    starts: I64Array
    digests: U64Array
    facts: I64Array

    @classmethod
    def open(
        cls,
        directory: SpillDirectory,
        names: Sequence[str],
        words: int,
        partitions: int,
        chosen: range,
    ) -> list[SpillFile]:
        """Read the beginnings of files, to read a range of their partitions.

        Parameters
        ----------
        directory, names
            Where they are.
        words : int
            Words of a key.
        partitions : int
            How many partitions the files have.
        chosen : range
            Which of them are of interest.

        Raises
        ------
        OSError
            If a file is not there, or its beginning is not what was written.
        """
        places = [
            (0, 24 * MOST_PIECES),
            (BLOCK + INDEX_BYTES * chosen.start, INDEX_BYTES * (len(chosen) + 1)),
        ]
        requests = [
            Request(name, place, size, blocks(place % BLOCK + size))
            for name in names
            for place, size in places
        ]
        directory.read_all(requests)
        files = []
        for name, begin, rest in zip(names, requests[::2], requests[1::2], strict=True):
            facts = begin.content.view(np.int64).reshape(MOST_PIECES, 3)
            index = rest.content.view(np.uint64).reshape(-1, MOST_PIECES + 2)
            seals = _seals(index, chosen.start, facts, directory, name)
            if not np.array_equal(seals, index[:, _SEAL]):
                raise directory.damaged(name)
            starts = np.ascontiguousarray(index[:, :MOST_PIECES].T).view(np.int64)
            digests = index[:-1, _DIGEST].copy()
            files.append(cls(name, words, partitions, chosen.start, starts, digests, facts))
        return files

    def sizes(self) -> tuple[I64Array, I64Array]:
        """Return how many bytes, and how many keys, the file has of each partition."""
        keys = np.diff(self.starts, axis=1)
        entry = 8 * self.words + np.where(self.facts[:, 1], 8, 4)
        return (keys * entry[:, None]).sum(axis=0), keys.sum(axis=0)

    def pieces(self, chosen: range, scratch: Scratch) -> tuple[list[Piece], list[Request]]:
        """Make room for what the file has of a range of partitions.

        Parameters
        ----------
        chosen : range
            Partitions among those that the file was opened for.
        scratch : Scratch
            Gives the room.

        Returns
        -------
        pieces : list of Piece
            Those that have keys.
        requests : list of Request
            What is to be read to fill them.
        """
        pieces: list[Piece] = []
        requests: list[Request] = []
        offset = BLOCK + _padded(INDEX_BYTES * (self.partitions + 1))
        for starts, (size, counted, add) in zip(self.starts, self.facts.tolist(), strict=True):
            edges = starts[chosen.start - self.first : chosen.stop - self.first + 1]
            begin, end = int(edges[0]), int(edges[-1])
            columns: list[Any] = []
            for dtype, words in [(np.uint64, self.words), *[(np.uint32, 1)] * (1 + counted)]:
                entry = np.dtype(dtype).itemsize * words
                if begin < end:
                    place, length = offset + entry * begin, entry * (end - begin)
                    room = scratch.array(_padded(place % BLOCK + length), np.uint8)
                    request = Request(self.name, place, length, room)
                    column = request.content.view(dtype)
                    columns.append(column if words == 1 else column.reshape(-1, words))
                    requests.append(request)
                offset += _padded(entry * size)
            if columns:
                counts = columns[1] if counted else None
                shifted = (edges - begin)[None]
                pieces.append(Piece(columns[0], counts, columns[-1], shifted, np.array([add])))
        return pieces, requests

    def is_whole(self, chosen: range, pieces: Iterable[Piece]) -> bool:
        """Whether `pieces` were filled with what was written."""
        places = slice(chosen.start - self.first, chosen.stop - self.first)
        digests = np.zeros(len(chosen), np.uint64)
        filled = iter(pieces)
        for number, starts in enumerate(self.starts):
            if starts[places.start] < starts[places.stop]:
                _digest(next(filled), number, digests)
        return np.array_equal(digests, self.digests[places])


def _padded(size: int) -> int:
    return size + -size % BLOCK
