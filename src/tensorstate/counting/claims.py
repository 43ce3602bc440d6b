"""Rows that the threads of one process share out among themselves while they count.

Of blocks that are divided in advance, all threads wait for the slowest one: a processor of a
virtual machine may be a third slower than its neighbour for a second. Here each thread claims a
few rows, or chunks of rows, at a time. They come in ascending order, so that the first row in
which a thread sees a state is the first one of all its rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tensorstate.counting.keys import U8Array
from tensorstate.counting.sources import Block, Span, read

__all__ = ["Claims", "Turn"]

MOST_AT_ONCE = 1 << 18
LEAST_AT_ONCE = 1 << 16
"""How many rows a thread claims: towards the end fewer and fewer, as all wait for the last one."""

MOST_ROWS = 1 << 32
"""Tables keep the numbers of rows in 32 bits."""


class Claims:
    """Rows of arrays in memory that are not claimed yet.

    Parameters
    ----------
    blocks : sequence of Block
        All rows, in order.
    width : int
        Bytes of a row.
    threads : int
        How many threads count.

    Attributes
    ----------
    width, threads : int
        As given.
    """

    def __init__(self, blocks: Sequence[Block], width: int, threads: int) -> None:
        self.width = width
        self.threads = threads
        self._spans = [span for block in blocks for span in block.spans][::-1]
        self._next_row = blocks[0].first_row
        self._left = sum(block.rows for block in blocks)
        self._claiming = threads
        self._lock = threading.Lock()

    @staticmethod
    def suit(blocks: Sequence[Block]) -> bool:
        """Whether rows may be claimed: where reading a few at a time does not take longer."""
        spans = [span for block in blocks for span in block.spans]
        return sum(block.rows for block in blocks) < MOST_ROWS and all(
            _is_read_by_chunk(span.source) for span in spans
        )

    @property
    def left(self) -> int:
        """How many rows nobody has claimed."""
        return self._left

    def claim(self) -> Block:
        """Return the next few rows; none if all are claimed."""
        with self._lock:
            share = self._left // (4 * self.threads)
            return self._take(min(max(share, LEAST_AT_ONCE), MOST_AT_ONCE))

    def claim_share(self) -> Block:
        """Return the share of a thread, of all that is left, which it has to give back."""
        with self._lock:
            share = self._take(-(-self._left // self._claiming))
            self._claiming -= 1
            return share

    def give_back(self) -> None:
        """Say that a share is counted."""
        with self._lock:
            self._claiming += 1

    def _take(self, rows: int) -> Block:
        spans: list[Span] = []
        taken = 0
        while self._spans and taken < rows:
            span = self._spans.pop()
            chunks = -(-(rows - taken) // span.chunk)
            middle = min(span.start + chunks * span.chunk, span.stop)
            if middle < span.stop:
                self._spans.append(replace(span, start=middle))
            spans.append(replace(span, stop=middle))
            taken += middle - span.start
        block = Block(tuple(spans), self._next_row)
        self._next_row += taken
        self._left -= taken
        return block


def _is_read_by_chunk(source: Any) -> bool:
    if isinstance(source, np.ndarray):
        return not isinstance(source, np.memmap)
    # Not its truth: any attribute of a delayed array is another delayed object.
    return getattr(source, "is_read_by_chunk", False) is True


class Turn:
    """Batches of rows for one thread: claim by claim, until it asks how many there will be.

    Parameters
    ----------
    claims : Claims
        Where the rows come from.
    """

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._end = 0
        self._share: Block | None = None
        self._kept: dict[Any, Any] = {}

    def __iter__(self) -> Iterator[tuple[int, U8Array]]:
        """Yield the number of the first row, and (n, width) rows to be used before the next."""
        while self._share is None and (block := self._claims.claim()).rows:
            yield from self._batches(block)
        if self._share is not None:
            yield from self._batches(self._share)
            self._claims.give_back()

    def _batches(self, block: Block) -> Iterator[tuple[int, U8Array]]:
        row = block.first_row
        self._end = row + block.rows
        for rows in read(block, self._claims.width, self._kept):
            yield row, rows
            row += len(rows)

    def rows_from(self, row: int) -> int:
        """Settle how many rows this turn has from a row of the last batch on, and return it."""
        if self._share is None:
            self._share = self._claims.claim_share()
            self._end += self._share.rows
        return self._end - row
