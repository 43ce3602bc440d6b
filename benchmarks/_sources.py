"""Sources of states whose entropy is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEURONS = 12


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
