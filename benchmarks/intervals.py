"""How often intervals of an entropy cover what they should, on sources whose entropy is known.

    python -m benchmarks.intervals [--method jackknife] [--samples 100] [--instances 300 3000]

The sources are those of `benchmarks.estimators`, with ten rows to an instance; in "topics" the
rows of an instance resemble each other, as the positions of an image do: they come from one of 64
groups of states, which together are equally frequent. A cell shows the standard error as a multiple
of what estimates really vary by; then, which share of the 95 % intervals holds what the estimate
is on average, which is what they promise; and last, which share holds the true entropy, which
takes an estimator without bias.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

import tensorstate as ts
from benchmarks._measure import markdown
from benchmarks.estimators import NEURONS, sources, true_entropy

ESTIMATORS = ("plugin", "miller_madow", "grassberger", "chao_wang_jost")
POSITIONS, TOPICS = 10, 64

Draw = Callable[[np.random.Generator, int], NDArray[np.int64]]


def draws(seed: int) -> Iterator[tuple[str, float, Draw]]:
    """Yield names, entropies in bits, and what draws the states of instances, (n, POSITIONS)."""
    for name, p in sources(seed).items():
        yield name, true_entropy(p, 1), partial(_of_source, p)
    yield "topics", float(NEURONS), _of_topics


def _of_source(p: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    states: NDArray[np.int64] = rng.choice(len(p), (n, POSITIONS), p=p)
    return states


def _of_topics(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    each = 2**NEURONS // TOPICS
    states = rng.integers(0, TOPICS, (n, 1)) * each + rng.integers(0, each, (n, POSITIONS))
    return np.asarray(states, np.int64)


def recorded(states: NDArray[np.int64]) -> ts.StateRecorder:
    """Record states by their numbers."""
    recorder = ts.StateRecorder("layer")
    recorder.record(states[..., None] >> np.arange(NEURONS) & 1)
    return recorder


def covered(draw: Draw, truth: float, n: int, samples: int, method: str, seed: int) -> list[str]:
    """Return, for each estimator, the cell that the text above describes."""
    layers = [recorded(draw(np.random.default_rng([seed, i]), n)) for i in range(samples)]
    cells = []
    for estimator in ESTIMATORS:
        found = [layer.entropy_interval(1, estimator, method=method) for layer in layers]
        estimates = [interval["entropy"] for interval in found]
        error = fmean(interval["standard_error"] for interval in found) / stdev(estimates)
        shares = [
            fmean(interval["low"] <= min(value, NEURONS) <= interval["high"] for interval in found)
            for value in (fmean(estimates), truth)
        ]
        cells.append(f"{error:.1f}; {shares[0]:.0%}; {shares[1]:.0%}")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=100, help="samples of each size")
    parser.add_argument("--instances", type=int, nargs="+", default=[300, 3000])
    parser.add_argument("--method", choices=("jackknife", "bootstrap"), default="jackknife")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    table = []
    for name, truth, draw in draws(options.seed):
        for n in options.instances:
            cells = covered(draw, truth, n, options.samples, options.method, options.seed)
            table.append([name, f"{truth:.2f}", n, *cells])
    print(markdown(["source", "bits", "instances", *ESTIMATORS], table))
    print(
        f"\n95 % intervals by {options.method}, {options.samples} samples each, "
        f"seed {options.seed}; numpy {version('numpy')}, tensorstate {version('tensorstate')}"
    )


if __name__ == "__main__":
    main()
