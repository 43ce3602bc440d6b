"""How fast it is counted in how many states neurons fire, alone and in pairs, on one core.

    python -m benchmarks.firing [--rows 200000] [--repeats 5]

Beside it NumPy's own ways: the sum of unpacked states, and the product of the matrix of all
unpacked states with itself (in float32, by BLAS). All start from packed states.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from statistics import median
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import numpy.typing as npt

from benchmarks._measure import (
    add_ratios_option,
    interleaved,
    keep_ratios,
    machine,
    markdown,
    pin,
)
from tensorstate.bits import compress_states
from tensorstate.firing import cofiring_counts, firing_counts

NEURONS = (20, 64, 100, 512)


def unpacked(packed: npt.NDArray[np.uint8], neurons: int) -> npt.NDArray[np.uint8]:
    """Unpack states into a byte for each neuron."""
    return np.unpackbits(packed, axis=1, count=neurons, bitorder="little")


def sums(packed: npt.NDArray[np.uint8], neurons: int) -> Any:
    """Count how often each neuron fires, in NumPy's own way."""
    return unpacked(packed, neurons).sum(axis=0)


def products(packed: npt.NDArray[np.uint8], neurons: int) -> Any:
    """Count how often two neurons fire together, in NumPy's own way."""
    fires = unpacked(packed, neurons).astype(np.float32)
    return fires.T @ fires


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    add_ratios_option(parser)
    options = parser.parse_args()

    pin(1)
    table: list[Any] = []
    kept: dict[str, float] = {}
    for neurons in NEURONS:
        rng = np.random.default_rng(0)
        packed = compress_states(rng.random((options.rows, neurons), dtype=np.float32) - 0.7)
        ways: dict[str, Callable[[], Any]] = {
            "counts": partial(firing_counts, packed, neurons),
            "sums": partial(sums, packed, neurons),
            "pairs": partial(cofiring_counts, packed, neurons),
            "products": partial(products, packed, neurons),
        }
        assert np.array_equal(ways["counts"](), ways["sums"]())
        assert np.array_equal(ways["pairs"](), ways["products"]())
        timings = interleaved(ways, options.repeats)
        ns = {way: 1e9 * median(timings[way].wall) / options.rows for way in ways}
        ratios = ns["sums"] / ns["counts"], ns["products"] / ns["pairs"]
        kept |= {f"{neurons} neurons": ratios[0], f"pairs of {neurons} neurons": ratios[1]}
        table.append(
            [neurons]
            + [f"{ns[way]:.1f}" for way in ("counts", "sums")]
            + [f"{ratios[0]:.0f}"]
            + [f"{ns[way]:.0f}" for way in ("pairs", "products")]
            + [f"{ratios[1]:.1f}"]
        )
    keep_ratios(options.ratios, kept)
    head = ["neurons", "neurons alone", "np.sum", "ratio", "pairs", "np.matmul", "ratio"]
    print(markdown(head, table))
    print(
        f"\nns a state, {options.rows} states, medians of {options.repeats}; {machine()}, "
        f"numpy {version('numpy')}, numba {version('numba')}, tensorstate {version('tensorstate')}"
    )


if __name__ == "__main__":
    main()
