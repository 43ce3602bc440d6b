"""Tiny memory limits for tiny inputs, and what tests do with the files that come of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tensorstate.counting import pieces, plan


def make_tiny(patch, rows_per_partition=40):
    """Let the limit count for the rows alone, so that a few rows are too many."""
    patch.setattr(plan, "PROCESS_BYTES", 0)
    patch.setattr(plan, "TASK_BYTES", 0)
    patch.setattr(plan, "READ_COPIES", 0)
    patch.setattr(plan, "LEAST_READ", 1)
    patch.setattr(plan, "LEAST_ROWS", 1)
    patch.setattr(pieces, "ROWS_PER_PARTITION", rows_per_partition)


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def resident(field):
    """Return what this process has in memory (VmRSS), or had at most (VmHWM), in bytes."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


class Reader:
    """Rows when sliced, in chunks, and perhaps something on the way."""

    dtype = np.dtype(np.uint8)

    def __init__(self, rows, chunk):
        self.rows, self.shape, self.chunks = rows, rows.shape, (chunk, rows.shape[1])

    def __getitem__(self, rows):
        self.meet(rows)
        return self.rows[rows]

    def meet(self, rows):
        """Do nothing."""
