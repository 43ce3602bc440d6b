"""Spill files, which map tasks write and merge tasks read.

A spill file holds the pieces of one block, at most two, each laid partition by partition, so that
a range of partitions is one read of each of its columns:

    facts: (2, 3) int64, of each piece: keys, whether it has counts, number to add to rows
    starts: (2, partitions + 1) int64, where the partitions of each piece start
    piece: keys | counts, if any | rows
    ...

Counts and rows are uint32. Each array is padded to a multiple of 4,096 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorstate.counting.files import BLOCK, Request, blocks
from tensorstate.counting.pieces import I64Array, Piece, Scratch
from tensorstate.counting.spill import SpillDirectory

__all__ = ["SpillFile", "write_pieces"]

MOST_PIECES = 2


def write_pieces(
    directory: SpillDirectory, name: str, pieces: Sequence[Piece], partitions: int
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
    """
    starts = np.zeros((MOST_PIECES, partitions + 1), np.int64)
    facts = np.zeros((MOST_PIECES, 3), np.int64)
    columns: list[npt.NDArray[Any]] = [facts, starts]
    for number, piece in enumerate(pieces):
        starts[number] = piece.starts[0]
        facts[number] = len(piece.keys), piece.counts is not None, piece.add[0]
        columns.append(piece.keys)
        if piece.counts is not None:
            columns.append(piece.counts.astype(np.uint32, copy=False))
        columns.append(piece.rows.astype(np.uint32, copy=False))
    with directory.writing(name) as write:
        for column in columns:
            write(column)
            write(np.zeros(-column.nbytes % BLOCK, np.uint8))


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
    facts : (2, 3) int64
        As the file has them.
    """

    name: str
    words: int
    partitions: int
    first: int
    starts: I64Array
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
        """
        places = [(0, 3 * MOST_PIECES)]
        for piece in range(MOST_PIECES):
            place = BLOCK + 8 * (piece * (partitions + 1) + chosen.start)
            places.append((place, len(chosen) + 1))
        requests = [
            Request(name, place, 8 * numbers, blocks(place % BLOCK + 8 * numbers))
            for name in names
            for place, numbers in places
        ]
        directory.read_all(requests)
        files = []
        for number, name in enumerate(names):
            first = number * len(places)
            facts, *starts = (
                request.content.view(np.int64) for request in requests[first : first + len(places)]
            )
            facts = facts.reshape(MOST_PIECES, 3)
            files.append(cls(name, words, partitions, chosen.start, np.array(starts), facts))
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
        offset = BLOCK + _padded(8 * MOST_PIECES * (self.partitions + 1))
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


def _padded(size: int) -> int:
    return size + -size % BLOCK
