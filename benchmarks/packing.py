"""How fast activations are packed into bits: GB/s of float32, on one core.

    python -m benchmarks.packing [--megabytes 160] [--repeats 9]

They lie position by position, or neuron by neuron ("channels first"), as in PyTorch. Beside it one
read of the same data (``np.sum``), which is about the most that memory allows, and NumPy's own way,
``np.packbits(x > 0)``. All are interleaved and their medians shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from statistics import median
from typing import Any

import numpy as np

from benchmarks._measure import add_ratios_option, interleaved, keep_ratios, machine, markdown
from tensorstate.bits import compress_states

NEURONS = (10, 20, 50, 64, 100, 512)
POSITIONS = 24 * 24


def packbits(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Pack in NumPy's own way."""
    return np.packbits(x > 0, axis=-1, bitorder="little")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=160, help="size of the activations")
    parser.add_argument("--repeats", type=int, default=9)
    add_ratios_option(parser)
    options = parser.parse_args()

    table, ratios = [], {}
    for neurons in NEURONS:
        rows = options.megabytes * 1_000_000 // (4 * neurons)
        x = np.random.default_rng(0).standard_normal((rows, neurons), dtype=np.float32)
        assert np.array_equal(compress_states(x), packbits(x))
        turned = x[: len(x) // POSITIONS * POSITIONS].reshape(-1, neurons, POSITIONS)
        ways: dict[str, Callable[[], Any]] = {
            "read": partial(np.sum, x),
            "tensorstate": partial(compress_states, x),
            "channels first": partial(compress_states, turned.swapaxes(1, 2)),
            "packbits": partial(packbits, x),
        }
        timings = interleaved(ways, options.repeats)
        speed = {way: x.nbytes / 1e9 / median(timings[way].wall) for way in ways}
        ratio = ratios[f"{neurons} neurons"] = speed["tensorstate"] / speed["packbits"]
        table.append([neurons, *(f"{speed[way]:.1f}" for way in ways), f"{ratio:.1f}"])
    keep_ratios(options.ratios, ratios)
    header = ["neurons", "one read", "tensorstate", "channels first", "np.packbits", "ratio"]
    print(markdown(header, table))
    print(
        f"\nGB/s of float32, {options.megabytes} MB, medians of {options.repeats}; {machine()}, "
        f"numpy {version('numpy')}, numba {version('numba')}, tensorstate {version('tensorstate')}"
    )


if __name__ == "__main__":
    main()
