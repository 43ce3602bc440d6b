"""How far what states tell about labels depends on which instances were recorded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import groupby
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tensorstate.counting import StateHistogram
from tensorstate.counting.memory import MemoryLimit
from tensorstate.counting.resampling import weighted_spectra
from tensorstate.metrics import entropy, entropy_of_spectrum, information, information_bias
from tensorstate.storage.instances import InstanceNumbers
from tensorstate.storage.intervals import (
    MOST_GROUPS,
    check_confidence,
    deal,
    jackknife_error,
    normal_interval,
)
from tensorstate.storage.labels import label_codes

__all__ = ["LabelIntervals"]


class LabelIntervals:
    """Intervals for what states tell about labels: a part of `LayerStates`."""

    name: str
    histogram: Any  # counts the distinct states, also by label
    _labels_or_stored: Callable[[ArrayLike | None], ArrayLike]

    @abstractmethod
    def _numbers(self) -> InstanceNumbers:
        """Return which instances there are; at least one."""

    def label_information_interval(
        self,
        labels: ArrayLike | None = None,
        instances: ArrayLike | None = None,
        *,
        confidence: float = 0.95,
        seed: int = 0,
        memory_limit: MemoryLimit = None,
        spill: str | PathLike[str] | None = None,
    ) -> pd.DataFrame:
        """Confidence intervals of what states tell about labels, by leaving instances out.

        Instances are dealt at random into at most 100 groups; information is estimated without
        each of them in turn. The intervals are normal, around the estimates, with the standard
        errors that follow. They tell how much the estimates would change with other instances,
        and not how far they are from the truth: what is left of the bias stays.

        Parameters
        ----------
        labels : array_like of int, str or bool, shape (instance_count,), optional
            A label for every instance; without it, those that the run has (`StateRun.set_labels`).
        instances : optional
            As for `histogram`.
        confidence : float, default 0.95
            How often such an interval covers what the estimate is on average, within 0 to 1.
        seed : int, default 0
            What the dealing begins with: the same gives the same.
        memory_limit, spill : optional
            As for `histogram`: the states of each group are counted by themselves, and of each
            label in a group.

        Returns
        -------
        pandas.DataFrame
            A row for `information` and one for `corrected` (`label_information`), with the
            columns `estimate`, its `standard_error`, and the interval from `low` to `high`, all in
            bits. Intervals lie within 0 and the entropy of the labels, but for a corrected
            estimate that is beyond these itself.

        Raises
        ------
        ValueError
            If there are fewer than two instances, or an option makes no sense; or as for
            `histogram`.

        References
        ----------
        B. Efron and C. Stein, "The jackknife estimate of variance", Annals of Statistics 9 (1981)
        586-596. P. S. Kott, "The delete-a-group jackknife", Journal of Official Statistics 17
        (2001) 521-526.

        Examples
        --------
        >>> import tensorstate as ts
        >>> layer = ts.StateRecorder("layer")
        >>> layer.record([[1.0, -1.0], [1.0, 2.0], [1.0, -1.0], [1.0, -1.0]])
        >>> found = layer.label_information_interval(["cat", "dog", "dog", "cat"])
        >>> found.loc["information"].round(3).to_dict()
        {'estimate': 0.311, 'standard_error': 0.59, 'low': 0.0, 'high': 1.0}
        """
        check_confidence(confidence)
        numbers = self._numbers()
        codes = label_codes(self._labels_or_stored(labels), numbers.span)[1]
        every = numbers.all()
        chosen = every if instances is None else np.unique(every[numbers.places(instances)])
        if len(chosen) < 2:
            raise ValueError(
                f"capture {self.name!r}: no interval follows from fewer than two instances: choose "
                "or record more"
            )
        groups = min(len(chosen), MOST_GROUPS)
        dealt = deal(chosen, numbers.span, groups, np.random.default_rng(seed))
        limits = {"memory_limit": memory_limit, "spill": spill}
        (of_states,) = self._left_out(instances, dealt, groups, limits)
        of_labels = self._left_out(instances, codes * groups + dealt, groups, limits)
        found = of_states.information(of_labels)
        if np.isnan(found[-1]).any():
            raise ValueError(f"capture {self.name!r}: no instance is chosen, so there is no label")
        most = entropy(np.array([label.totals[-1] for label in of_labels]))
        rows = {}
        for name, values in zip(("information", "corrected"), found.T, strict=True):
            error = jackknife_error(values[:-1][~np.isnan(values[:-1])].tolist())
            estimate = float(values[-1])
            interval = normal_interval(estimate, error, confidence, 0.0, most)
            rows[name] = (estimate, error, *interval)
        columns = ["estimate", "standard_error", "low", "high"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def _left_out(
        self,
        instances: ArrayLike | None,
        codes: NDArray[np.int64],
        groups: int,
        limits: dict[str, Any],
    ) -> list[_LeftOut]:
        """Count by label and group, ``label * groups + group``; return what is known of labels."""
        counted = self.histogram(instances, by=codes, **limits)
        found = []
        # Labels ascend; the histograms of one go before those of the next are looked at.
        for _, own in groupby(list(counted), lambda code: code // groups):
            histograms = {code % groups: counted.pop(code) for code in own}
            found.append(_LeftOut.of(list(histograms), list(histograms.values()), groups))
        return found


class _LeftOut:
    """What is known of states without each group, and last with all: (groups + 1,) arrays.

    Attributes
    ----------
    totals, distincts : (groups + 1,) int64
        States, and distinct ones.
    entropies : (groups + 1,) float64
        In bits, plug-in; 0 where there is no state.
    """

    def __init__(self, groups: int) -> None:
        self.totals = np.zeros(groups + 1, np.int64)
        self.distincts = np.zeros(groups + 1, np.int64)
        self.entropies = np.zeros(groups + 1)

    @classmethod
    def of(cls, own: Sequence[int], histograms: Sequence[StateHistogram], groups: int) -> _LeftOut:
        """Find it out from the histograms of the groups that have states, given their numbers."""
        found = cls(groups)
        weights = np.vstack([1 - np.eye(len(own), dtype=np.int64), np.ones(len(own), np.int64)])
        *without, whole = weighted_spectra(histograms, weights)
        # Without a group that has none of these states they are what they are with all.
        found._set(slice(None), *whole)
        for group, spectrum in zip(own, without, strict=True):
            found._set(group, *spectrum)
        return found

    def _set(
        self, where: int | slice, times_seen: NDArray[np.int64], states: NDArray[np.int64]
    ) -> None:
        self.totals[where] = times_seen @ states
        self.distincts[where] = states.sum()
        self.entropies[where] = entropy_of_spectrum(times_seen, states) if len(states) else 0.0

    def information(self, labels: Sequence[_LeftOut]) -> NDArray[np.float64]:
        """Return what states tell about labels, (groups + 1, 2) bits: plug-in, and corrected.

        NaN where there is no state.
        """
        found = np.full((len(self.totals), 2), np.nan)
        for group in np.flatnonzero(self.totals):
            # A label may have had its states in this group alone.
            left = [label for label in labels if label.totals[group]]
            entropies = [float(label.entropies[group]) for label in left]
            totals = [int(label.totals[group]) for label in left]
            told = information(float(self.entropies[group]), entropies, totals)
            distincts = [int(label.distincts[group]) for label in left]
            bias = information_bias(int(self.distincts[group]), distincts, sum(totals))
            found[group] = told, told - bias
        return found
