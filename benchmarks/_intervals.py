"""How often intervals of an entropy cover what they should, on sources whose entropy is known.

The second table of `benchmarks.estimators`: its sources, with ten rows to an instance; in "topics"
the rows of an instance resemble each other, as the positions of an image do: they come from one of
64 groups of states, which together are equally frequent. A cell shows the standard error as a
multiple of what estimates really vary by; then, which share of the 95 % intervals holds what the
estimate is on average, which is what they promise; and last, which share holds the true entropy,
which takes an estimator without bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

import tensorstate as ts
from benchmarks._measure import markdown
from benchmarks._sources import NEURONS, sources, true_entropy

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
        spread = stdev(estimates)
        error = fmean(interval["standard_error"] for interval in found)
        times = f"{error / spread:.1f}" if spread else "-"  # a few rows may all be different
        shares = [
            fmean(interval["low"] <= min(value, NEURONS) <= interval["high"] for interval in found)
            for value in (fmean(estimates), truth)
        ]
        cells.append(f"{times}; {shares[0]:.0%}; {shares[1]:.0%}")
    return cells


def intervals(samples: int, instances: list[int], method: str, seed: int) -> str:
    """Return the table that the text above describes."""
    table = [
        [name, f"{truth:.2f}", n, *covered(draw, truth, n, samples, method, seed)]
        for name, truth, draw in draws(seed)
        for n in instances
    ]
    return markdown(["source", "bits", "instances", *ESTIMATORS], table)
