"""How far a layer's numbers depend on which instances, and how many, were recorded."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tensorstate.counting import StateHistogram
from tensorstate.counting.memory import MemoryLimit
from tensorstate.counting.resampling import weighted_spectra
from tensorstate.metrics import (
    check_entropy_options,
    coverage_of_spectrum,
    efficiency,
    entropy_of_spectrum,
)
from tensorstate.storage.instances import InstanceNumbers
from tensorstate.storage.intervals import (
    MOST_GROUPS,
    check_confidence,
    deal,
    edges,
    jackknife_error,
    normal_interval,
)

__all__ = ["SampleStatistics"]

BOOTSTRAP_RESAMPLES = 200

STRETCHES = 32


class SampleStatistics:
    """Confidence intervals and rarefaction: the part of `LayerStates` that tells of the sample.

    The states of one instance depend on each other. So whole instances are drawn, or left out,
    and not rows.
    """

    name: str
    histogram: Any  # counts the distinct states, also by label

    @property
    @abstractmethod
    def neurons(self) -> int:
        """Neurons in a state."""

    @abstractmethod
    def entropy(self, alpha: float | None = 1, estimator: str = "plugin") -> float:
        """Entropy of the states, in bits."""

    @property
    @abstractmethod
    def state_count(self) -> int:
        """States recorded so far, repeats included."""

    @abstractmethod
    def _numbers(self) -> InstanceNumbers:
        """Return which instances there are; at least one."""

    def entropy_interval(
        self,
        alpha: float = 1,
        estimator: str = "plugin",
        *,
        confidence: float = 0.95,
        method: str = "jackknife",
        seed: int = 0,
        memory_limit: MemoryLimit = None,
        spill: str | PathLike[str] | None = None,
    ) -> pd.Series[float]:
        """Confidence interval of the entropy, by resampling instances.

        Instances are dealt at random into at most 100 groups; the entropy is estimated without
        each of them in turn, or from groups that are drawn with replacement. The interval is
        normal, around the estimate, with the standard error that follows. It tells how much the
        estimate would change with other instances, and not how far it is from the truth: the bias
        of an estimator for too small a sample stays.

        Parameters
        ----------
        alpha, estimator
            As for `entropy`.
        confidence : float, default 0.95
            How often such an interval covers what the estimate is on average, within 0 to 1.
        method : {"jackknife", "bootstrap"}
            "jackknife" leaves groups out. "bootstrap" draws them 200 times: where most states were
            seen once, they come twice then, and intervals are several times too wide.
        seed : int, default 0
            What the drawing begins with: the same gives the same.
        memory_limit, spill : optional
            As for `histogram`: the states of each group are counted by themselves.

        Returns
        -------
        pandas.Series
            In bits: `entropy`, its `standard_error`, and the interval from `low` to `high`, within
            0 and the number of neurons, but for an estimate that is beyond these itself. Divided
            by the number of neurons, they are those of the efficiency.

        Raises
        ------
        ValueError
            If there are fewer than two instances, or an option makes no sense; or as for
            `histogram`.

        References
        ----------
        B. Efron and C. Stein, "The jackknife estimate of variance", Annals of Statistics 9 (1981)
        586-596. P. S. Kott, "The delete-a-group jackknife", Journal of Official Statistics 17
        (2001) 521-526. B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993).
        """
        check_entropy_options(alpha, estimator)
        check_confidence(confidence)
        if method not in ("jackknife", "bootstrap"):
            raise ValueError(f"unknown method {method!r}: choose 'jackknife' or 'bootstrap'")
        numbers = self._numbers()
        if numbers.count < 2:
            raise ValueError(
                f"capture {self.name!r} has one instance only, of which no interval follows: "
                "record more"
            )
        rng = np.random.default_rng(seed)
        groups = self._groups(min(numbers.count, MOST_GROUPS), rng, memory_limit, spill)
        n = len(groups)
        if method == "jackknife":
            weights = 1 - np.eye(n, dtype=np.int64)
        else:
            weights = rng.multinomial(n, [1 / n] * n, size=BOOTSTRAP_RESAMPLES)
        entropies = [
            entropy_of_spectrum(*found, alpha, estimator, states=2**self.neurons)
            for found in weighted_spectra(groups, weights)
            if len(found[0])  # instances without positions may be all that is left
        ]
        if method == "jackknife":
            error = jackknife_error(entropies)
        else:
            # Of n groups, the variance is by a factor of (n - 1) / n too small.
            error = math.sqrt(n / (n - 1) * np.var(entropies))
        middle = self.entropy(alpha, estimator)
        low, high = normal_interval(middle, error, confidence, 0.0, float(self.neurons))
        return pd.Series(
            {"entropy": middle, "standard_error": error, "low": low, "high": high}, name=self.name
        )

    def rarefaction(
        self,
        points: int = 20,
        estimator: str = "plugin",
        *,
        seed: int = 0,
        memory_limit: MemoryLimit = None,
        spill: str | PathLike[str] | None = None,
    ) -> pd.DataFrame:
        """Return what the layer's numbers would be with fewer instances, drawn at random.

        A curve that still rises at its end tells that the sample is too small. Instances are
        drawn as a whole, whose states depend on each other; `tensorstate.rarefaction` tells of
        single states instead, from their counts alone.

        Parameters
        ----------
        points : int, default 20
            How many numbers of instances to look at, evenly up to all.
        estimator : str, default "plugin"
            As for `entropy`.
        seed : int, default 0
            What the drawing begins with: the same gives the same.
        memory_limit, spill : optional
            As for `histogram`: the states of the instances between two points are counted by
            themselves.

        Returns
        -------
        pandas.DataFrame
            A row for each number of `instances`, with the columns `states`, `distinct` (states),
            `entropy` (bits, Shannon), `efficiency` (0 to 1) and `coverage` (which share of what
            could be seen has been, 0 to 1: `tensorstate.metrics.coverage_of_spectrum`). The
            last three are NaN where the instances drawn have no states.

        Raises
        ------
        ValueError
            If there is less than one point; or as for `histogram`.

        References
        ----------
        I. J. Good, "The population frequencies of species and the estimation of population
        parameters", Biometrika 40 (1953) 237-264.
        """
        check_entropy_options(1, estimator)
        if points < 1:
            raise ValueError(f"a curve has at least one point, not {points}")
        numbers = self._numbers()
        points = min(points, numbers.count)
        groups = self._groups(points, np.random.default_rng(seed), memory_limit, spill)
        rows = []
        for times, states in weighted_spectra(groups, np.tri(points, dtype=np.int64)):
            total = int(times @ states)
            if not total:  # instances may have no positions at all
                rows.append((0, 0, math.nan, math.nan, math.nan))
                continue
            bits = entropy_of_spectrum(times, states, 1, estimator, 2**self.neurons)
            share = efficiency(bits, self.neurons)
            covered = coverage_of_spectrum(times, states)
            rows.append((total, int(states.sum()), bits, share, covered))
        sizes = edges(numbers.count, points)[1:]
        columns = ["states", "distinct", "entropy", "efficiency", "coverage"]
        return pd.DataFrame(rows, columns=columns, index=pd.Index(sizes, name="instances"))

    def spread_instances(self, states: int = 1_000_000) -> NDArray[np.int64]:
        """Return instances from all over the layer that have about so many states together.

        What takes `instances` is fast with them, however large the layer is: they are up to 32
        stretches of neighbours, evenly apart, so that few chunks have to be read.

        Parameters
        ----------
        states : int
            How many states they have, on average.

        Returns
        -------
        ndarray of int64, shape (n,)
            Their numbers, ascending: of all instances, if these have no more states than that.

        Raises
        ------
        ValueError
            If the number of states is not positive; or as for `histogram`.

        Examples
        --------
        >>> import tensorstate as ts
        >>> layer = ts.StateRecorder("layer")
        >>> layer.record(np.ones((1000, 2)))
        >>> layer.spread_instances(64)[:5].tolist(), len(layer.spread_instances(1000))
        ([0, 1, 32, 33, 64], 1000)
        """
        if states < 1:
            raise ValueError(f"a sample has at least one state, not {states}")
        numbers = self._numbers()
        if self.state_count <= states:
            return numbers.all()
        wanted = max(states * numbers.count // self.state_count, 1)
        length = -(-wanted // STRETCHES)
        starts = np.linspace(0, numbers.count - length, wanted // length).astype(np.int64)
        return numbers.at((starts[:, None] + np.arange(length)).ravel())

    def _groups(
        self,
        groups: int,
        rng: np.random.Generator,
        memory_limit: MemoryLimit,
        spill: str | PathLike[str] | None,
    ) -> Sequence[StateHistogram]:
        """Deal the instances into groups of about the same size, and count each."""
        numbers = self._numbers()
        dealt = deal(numbers.all(), numbers.span, groups, rng)
        found = self.histogram(by=dealt, memory_limit=memory_limit, spill=spill)
        return list(found.values())
