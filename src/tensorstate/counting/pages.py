"""Memory that begins with a page: for what is read and written directly, and for what is large.

The system gives fresh memory page by page, when it is first written to. For a table that takes as
long as to count a million rows, and longer where several threads ask at once; huge pages are 512
times fewer. NumPy asks for them too, but only where its memory comes from a mapping of its own,
which a thread's does not as a rule.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK", "HUGE", "blocks"]

U8Array: TypeAlias = npt.NDArray[np.uint8]

BLOCK = 4096
"""Direct reads and writes begin and end at a multiple of this, in the file and in memory."""

HUGE = 1 << 21
"""Bytes of a huge page; memory of that size and more is asked for in such."""


def blocks(size: int) -> U8Array:
    """Return zeroed memory of at least `size` bytes that begins and ends with a block.

    What nobody writes to takes no memory, or less than `HUGE`.

    Examples
    --------
    >>> memory = blocks(5000)
    >>> memory.nbytes, int(memory.ctypes.data % BLOCK), bool(memory.any())
    (8192, 0, False)
    """
    size = max(size + -size % BLOCK, BLOCK)
    if size < HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.frombuffer(_mapping(size), np.uint8)
    mapping = _mapping(size + HUGE)
    with contextlib.suppress(OSError):  # a system without them
        mapping.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(mapping, np.uint8)
    start = -memory.ctypes.data % HUGE
    return memory[start : start + size]


def _mapping(size: int) -> mmap.mmap:
    # Not shared: such have no huge pages.
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
