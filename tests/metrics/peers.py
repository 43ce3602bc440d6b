"""What other packages say, in a process of its own.

    python -m tests.metrics.peers

Importing these packages changes the logging of the whole process, and imports the frameworks that
are installed. So it happens where nothing else runs.
"""

from __future__ import annotations

import importlib.abc
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

# Spiders in a forest of hemlocks that were girdled, and in one that was logged, the example of
# iNEXT: T. C. Hsieh, K. H. Ma and A. Chao, "iNEXT: an R package for rarefaction and extrapolation
# of species diversity (Hill numbers)", Methods in Ecology and Evolution 7 (2016) 1451-1456.
GIRDLED = [46, 22, 17, 15, 15, 9, 8, 6, 6, 4, 2, 2, 2, 2, *[1] * 12]
LOGGED = [88, 22, 16, 15, 13, 10, 8, 8, 7, 7, 7, 5, *[4] * 3, *[3] * 4, *[2] * 4, *[1] * 14]


def samples() -> list[list[int]]:
    """Return the counts that the other packages are asked about."""
    rng = np.random.default_rng(5)
    sources = [rng.dirichlet(np.full(60, concentration)) for concentration in (0.05, 0.3, 1, 10)]
    return [GIRDLED, LOGGED, [5, 1, 1, 1], *(rng.multinomial(300, p).tolist() for p in sources)]


@cache
def answers() -> list[dict[str, float]]:
    """Return what `infomeasure` and `scikit-bio` make of each sample."""
    command = [sys.executable, "-m", "tests.metrics.peers"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _answer(counts: Sequence[int]) -> dict[str, Any]:
    import infomeasure
    from skbio.diversity import alpha

    rows = [state for state, count in enumerate(counts) for _ in range(count)]
    bits = {
        approach: float(infomeasure.entropy(rows, approach=approach, base=2))
        for approach in ("discrete", "miller_madow", "chao_shen", "chao_wang_jost")
    }
    return bits | {
        "chao1": float(alpha.chao1(counts, bias_corrected=False)),
        "coverage": float(alpha.goods_coverage(counts)),
        "singletons": int(alpha.singles(counts)),
        "doubletons": int(alpha.doubles(counts)),
        "renyi_2": float(alpha.renyi(counts, order=2, base=2)),
        "renyi_half": float(alpha.renyi(counts, order=0.5, base=2)),
    }


class _WithoutFrameworks(importlib.abc.MetaPathFinder):
    """Hides what these packages import if they find it, which takes seconds."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] in ("jax", "torch"):
            raise ImportError(f"{name} is not needed here")


if __name__ == "__main__":
    sys.meta_path.insert(0, _WithoutFrameworks())
    print(json.dumps([_answer(counts) for counts in samples()]))
