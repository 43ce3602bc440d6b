"""A kernel that reads a file and works out its digest, as one piece of work.

In Python each piece of a file that is read gives the interpreter's lock away and takes it back:
threads that read at once wait for each other longer than for what they read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorstate.compiled import kernel
from tensorstate.intrinsics import (
    read_file,
    xxh3_begin,
    xxh3_digest,
    xxh3_free,
    xxh3_reset,
    xxh3_update,
)

__all__ = ["PIECE_BYTES", "read_digested"]

PIECE_BYTES = 256 << 10
"""What is read at once is still in the processor's cache when its digest is computed."""


@kernel
def read_digested(room: Any, file: Any, start: Any, digested: Any) -> Any:
    """Read the rest of a file, and digest the beginning of what is read.

    Parameters
    ----------
    room : (n,) uint8
        Filled from `start` on.
    file : int
        A file descriptor, at the place of the first byte to read.
    start : int
        Where in `room` that byte goes.
    digested : int
        How many bytes from that one on have a digest.

    Returns
    -------
    filled : int
        Up to where the room is filled: less than its length if the file ended, or failed.
    digest : int
        XXH3-64 of the digested bytes, of those that were read.
    """
    base = np.uint64(room.ctypes.data)
    begin, end = np.uint64(start), np.uint64(len(room))
    stop = min(begin + np.uint64(digested), end)
    filled = begin
    digest = np.uint64(0)
    state = xxh3_begin()
    if state != np.uint64(0):
        xxh3_reset(state)
        while filled < end:
            got = read_file(file, base + filled, min(end - filled, np.uint64(PIECE_BYTES)))
            if got <= 0:
                break
            until = min(filled + np.uint64(got), stop)
            if filled < until:
                xxh3_update(state, base + filled, until - filled)
            filled += np.uint64(got)
        digest = xxh3_digest(state)
        xxh3_free(state)
    return np.intp(filled), digest
