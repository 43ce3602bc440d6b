"""Bias and spread of the entropy estimators, and coverage of their intervals, on known sources.

    python -m benchmarks.estimators [--tables bias intervals] [--seed 0]
        [--samples 200] [--rows 100 1000 10000 100000]
        [--interval-samples 100] [--instances 300 3000] [--method jackknife]

Each source has 12 neurons, that is 4,096 possible states: all equally frequent, frequencies that
fall like 1 / rank, and a draw from a Dirichlet distribution with a concentration of 0.05, which
leaves a few hundred states that occur.

The first table is of samples of independent rows: a cell shows the mean error and, after it, the
standard deviation over samples, in bits. The second one is that of `benchmarks._intervals`.
"""

from __future__ import annotations

import argparse
import math
import warnings
from importlib.metadata import version
from statistics import fmean, pstdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._intervals import intervals
from benchmarks._measure import markdown
from benchmarks._sources import NEURONS, sources, true_entropy
from tensorstate.metrics import entropy, nsb_entropy

TABLES = ["bias", "intervals"]
SHANNON = (
    "plugin",
    "miller_madow",
    "grassberger",
    "jackknife",
    "chao_shen",
    "chao_wang_jost",
    "nsb",
)
COLLISION = ("plugin", "unbiased")


def errors(p: NDArray[np.float64], counted: list[Any], alpha: int, estimator: str) -> list[float]:
    """Errors of an estimator, in bits, of all samples for which it has a value."""
    truth = true_entropy(p, alpha)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = [entropy(counts, alpha, estimator, 2**NEURONS) - truth for counts in counted]
    return [error for error in found if not math.isnan(error)]


def cell(found: list[float], samples: int) -> str:
    """Mean and standard deviation of errors, and how many samples gave none."""
    if not found:
        return "no value"
    missing = f" ({samples - len(found)} without)" if len(found) < samples else ""
    return f"{fmean(found):+.3f} ± {pstdev(found):.3f}{missing}"


def covered(p: NDArray[np.float64], counted: list[Any]) -> str:
    """Share of samples whose NSB interval of two deviations holds the true entropy."""
    truth = true_entropy(p, 1)
    estimates = (nsb_entropy(counts, 2**NEURONS) for counts in counted)
    return f"{fmean(abs(mean - truth) <= 2 * deviation for mean, deviation in estimates):.0%}"


def bias(samples: int, sizes: list[int], seed: int) -> str:
    """Return the table of errors."""
    table = []
    for name, p in sources(seed).items():
        rng = np.random.default_rng(seed + 1)
        drawn = {rows: [rng.multinomial(rows, p) for _ in range(samples)] for rows in sizes}
        for alpha, estimators in ((1, SHANNON), (2, COLLISION)):
            for estimator in estimators:
                cells = [
                    cell(errors(p, counted, alpha, estimator), samples)
                    for counted in drawn.values()
                ]
                truth = f"{true_entropy(p, alpha):.3f}"
                table.append([name, alpha, truth, estimator, *cells])
        shares = [covered(p, counted) for counted in drawn.values()]
        table.append([name, 1, "", "within nsb ± 2 deviations", *shares])
    header = ["source", "order", "bits", "estimator", *(f"{rows} rows" for rows in sizes)]
    return markdown(header, table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", choices=TABLES, nargs="+", default=TABLES)
    parser.add_argument("--samples", type=int, default=200, help="samples of each number of rows")
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument(
        "--interval-samples", type=int, default=100, help="samples of each number of instances"
    )
    parser.add_argument("--instances", type=int, nargs="+", default=[300, 3000])
    parser.add_argument("--method", choices=("jackknife", "bootstrap"), default="jackknife")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    about = f"seed {options.seed}; numpy {version('numpy')}, tensorstate {version('tensorstate')}\n"
    if "bias" in options.tables:
        print(bias(options.samples, options.rows, options.seed))
        print(f"\nMean error ± standard deviation in bits, {options.samples} samples each, {about}")
    if "intervals" in options.tables:
        samples, method = options.interval_samples, options.method
        print(intervals(samples, options.instances, method, options.seed))
        print(f"\n95 % intervals by {method}, {samples} samples each, {about}")


if __name__ == "__main__":
    main()
