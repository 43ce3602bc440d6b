"""Bias and spread of the entropy estimators on sources whose entropy is known.

    python -m benchmarks.estimators [--samples 200] [--rows 100 1000 10000 100000] [--seed 0]

Each source has 12 neurons, that is 4,096 possible states: all equally frequent, frequencies that
fall like 1 / rank, and a draw from a Dirichlet distribution with a concentration of 0.05, which
leaves a few hundred states that occur. A cell shows the mean error and, after it, the standard
deviation over samples, in bits. Samples are independent rows.
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

from benchmarks._measure import markdown
from tensorstate.metrics import entropy, nsb_entropy

NEURONS = 12
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


def sources(seed: int) -> dict[str, NDArray[np.float64]]:
    """Probabilities of all states, by the name of the source."""
    possible = 2**NEURONS
    zipf = 1 / np.arange(1, possible + 1)
    drawn = np.random.default_rng(seed).dirichlet(np.full(possible, 0.05))
    return {
        "uniform": np.full(possible, 1 / possible),
        "Zipf": zipf / zipf.sum(),
        "Dirichlet": drawn,
    }


def true_entropy(p: NDArray[np.float64], alpha: int) -> float:
    """Entropy of a source, in bits."""
    p = p[p > 0]
    return float(-(p @ np.log2(p)) if alpha == 1 else -np.log2(p @ p))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=200, help="samples of each size")
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    table = []
    for name, p in sources(options.seed).items():
        rng = np.random.default_rng(options.seed + 1)
        drawn = {
            rows: [rng.multinomial(rows, p) for _ in range(options.samples)]
            for rows in options.rows
        }
        for alpha, estimators in ((1, SHANNON), (2, COLLISION)):
            for estimator in estimators:
                cells = [
                    cell(errors(p, counted, alpha, estimator), options.samples)
                    for counted in drawn.values()
                ]
                truth = f"{true_entropy(p, alpha):.3f}"
                table.append([name, alpha, truth, estimator, *cells])
        shares = [covered(p, counted) for counted in drawn.values()]
        table.append([name, 1, "", "within nsb ± 2 deviations", *shares])
    header = ["source", "order", "bits", "estimator", *(f"{rows} rows" for rows in options.rows)]
    print(markdown(header, table))
    print(
        f"\nMean error ± standard deviation in bits, {options.samples} samples each, seed "
        f"{options.seed}; numpy {version('numpy')}, tensorstate {version('tensorstate')}"
    )


if __name__ == "__main__":
    main()
