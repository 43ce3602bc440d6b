"""Inputs for property tests, and the slow, obvious way to count them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st

U8Array = npt.NDArray[np.uint8]

# The same examples in every run, and no time limit: the first example compiles.
reproducible = settings(derandomize=True, deadline=None, max_examples=60, print_blob=True)

widths = st.one_of(st.integers(1, 40), st.sampled_from([64, 100, 512]))
seeds = st.integers(0, 2**32 - 1)


@st.composite
def packed_states(
    draw: Any, width: st.SearchStrategy[int] = widths, most_rows: int = 300
) -> U8Array:
    """(rows, W) uint8 with anything from one state that repeats to all of them new."""
    columns = draw(width)
    rows = draw(st.integers(1, most_rows))
    distinct = draw(st.integers(1, rows))
    rng = np.random.default_rng(draw(seeds))
    pool = rng.integers(0, 256, (distinct, columns), dtype=np.uint8)
    alike = draw(st.integers(0, columns))
    pool[:, :alike] = 0
    return pool[rng.integers(0, distinct, rows)]


@st.composite
def chunkings(draw: Any, rows: int) -> tuple[int, ...]:
    """Lengths of chunks that add up to `rows`; some of them may be zero."""
    edges = draw(st.lists(st.integers(0, rows), max_size=6))
    return tuple(int(length) for length in np.diff([0, *sorted(edges), rows]))


def count_by_hand(rows: U8Array) -> dict[bytes, tuple[int, int]]:
    """Count each distinct row, and find where it comes first."""
    found: dict[bytes, tuple[int, int]] = {}
    for number, row in enumerate(rows):
        times, first = found.get(row.tobytes(), (0, number))
        found[row.tobytes()] = (times + 1, first)
    return found


def as_dict(histogram: Any, rows: U8Array) -> dict[bytes, tuple[int, int]]:
    """Bring a histogram of `rows` into the form of `count_by_hand`."""
    states = histogram.packed_states(lambda numbers: rows[numbers])
    entries = zip(states, histogram.counts.tolist(), histogram.first_rows.tolist(), strict=True)
    found = {state.tobytes(): (times, first) for state, times, first in entries}
    assert len(found) == histogram.distinct, "a state has two entries"
    return found


def structured(name: str, rows: int, width: int) -> U8Array:
    """Inputs that have broken hash tables: see the names."""
    rng = np.random.default_rng(7)
    out = np.zeros((rows, width), np.uint8)
    number = np.arange(rows, dtype=np.uint64)
    counter = number[:, None].view(np.uint8)
    used = min(width, 8)
    if name == "all equal":
        out[:] = 0xA5
    elif name == "counter in the low bytes":
        out[:, :used] = counter[:, :used]
    elif name == "counter in the high bytes":
        out[:, width - used :] = counter[:, :used]
    elif name == "sorted":
        out[:, :used] = (
            np.sort(rng.integers(0, rows, rows)).astype(np.uint64)[:, None].view(np.uint8)[:, :used]
        )
    elif name == "one bit set":
        bit = number.astype(np.int64) % (8 * width)
        out[number.astype(np.int64), bit // 8] = 1 << (bit % 8)
    elif name == "two bits set":
        for bit in rng.integers(0, 8 * width, (2, rows)):
            out[np.arange(rows), bit // 8] |= (1 << (bit % 8)).astype(np.uint8)
    elif name == "one key takes 99.9 %":
        out[:] = 0x5A
        rare = rng.random(rows) < 0.001
        out[rare] = rng.integers(0, 256, (int(rare.sum()), width), dtype=np.uint8)
    elif name == "half of one key, half new":
        new = rng.random(rows) < 0.5
        out[new] = rng.integers(0, 256, (int(new.sum()), width), dtype=np.uint8)
    elif name == "repeats, then new":
        out[: rows // 2] = rng.integers(0, 2, (rows // 2, width), dtype=np.uint8)
        out[rows // 2 :] = rng.integers(0, 256, (rows - rows // 2, width), dtype=np.uint8)
    elif name == "new, then repeats":
        return np.ascontiguousarray(structured("repeats, then new", rows, width)[::-1])
    else:
        raise ValueError(name)
    return out


STRUCTURES = (
    "all equal",
    "counter in the low bytes",
    "counter in the high bytes",
    "sorted",
    "one bit set",
    "two bits set",
    "one key takes 99.9 %",
    "half of one key, half new",
    "repeats, then new",
    "new, then repeats",
)
