"""What single neurons of a layer do, added up over its rows, out of core and in parallel.

Of states that were counted and dropped, it is added up over the distinct ones.
"""

from __future__ import annotations

import operator
import uuid
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tensorstate.counting import StateHistogram
from tensorstate.counting.computing import compute
from tensorstate.counting.distinct import distinct_states
from tensorstate.counting.progress import Work
from tensorstate.counting.schedulers import Graph, Key, find_scheduler, threads_if
from tensorstate.counting.sources import Block, cut, read
from tensorstate.firing import check_paired_neurons, cofiring_counts, firing_counts
from tensorstate.metrics import multi_information, neuron_table
from tensorstate.storage.part import PartReader
from tensorstate.storage.selection import SelectedRows

__all__ = ["NeuronStatistics", "sum_over_rows", "sum_over_states"]

CountNeurons: TypeAlias = Callable[[NDArray[np.uint8], int], NDArray[np.int64]]
"""Counts something in packed states, (n, W) uint8, of so many neurons."""


class NeuronStatistics:
    """What single neurons do, and pairs of them: the part of `LayerStates` that tells it."""

    @property
    @abstractmethod
    def neurons(self) -> int:
        """Neurons in a state."""

    @abstractmethod
    def entropy(self, alpha: float | None = 1, estimator: str = "plugin") -> float:
        """Entropy of the states, in bits."""

    @abstractmethod
    def _rows_of(self, instances: ArrayLike | None) -> Sequence[PartReader | SelectedRows]:
        """Return what holds the rows of instances, or all rows; at least one."""

    @abstractmethod
    def _known_states(self) -> StateHistogram | None:
        """Return the count of all states, if their keys tell what rows that were dropped told."""

    def firing_counts(self, instances: ArrayLike | None = None) -> pd.Series[int]:
        """Count in how many states each neuron fires.

        All rows are read, chunk by chunk; `neuron_summary` says what follows from the counts. Of a
        layer that was captured with ``histogram="live"``, which keeps no rows, the counts of its
        distinct states say the same, of all instances and up to 128 neurons.

        Parameters
        ----------
        instances : array_like of int or bool, optional
            Only the states of these instances, as for `histogram`.

        Returns
        -------
        pandas.Series of int64
            `fired`, in states, for each `neuron` from 0 on.

        Raises
        ------
        ValueError, IndexError, DamagedChunkError
            As for `histogram`; ValueError also if a live layer has more than 128 neurons.
        """
        fired, _ = self._add_up(firing_counts, instances)
        return pd.Series(fired, pd.RangeIndex(len(fired), name="neuron"), name="fired")

    def cofiring_counts(self, instances: ArrayLike | None = None) -> pd.DataFrame:
        """Count in how many states two neurons fire together, for each pair of neurons.

        Parameters
        ----------
        instances : array_like of int or bool, optional
            Only the states of these instances, as for `histogram`.

        Returns
        -------
        pandas.DataFrame of int64
            In states, a row for each `neuron` and a column for each `other` one, from 0 on:
            symmetric, with `firing_counts` on the diagonal.

        Raises
        ------
        ValueError
            As for `firing_counts`; or if the layer has more than 4,096 neurons.
        IndexError, DamagedChunkError
            As for `firing_counts`.
        """
        check_paired_neurons(self.neurons)
        together, _ = self._add_up(cofiring_counts, instances)
        rows, columns = (pd.RangeIndex(len(together), name=name) for name in ("neuron", "other"))
        return pd.DataFrame(together, rows, columns)

    def neuron_summary(self, instances: ArrayLike | None = None) -> pd.DataFrame:
        """Lay the numbers of all neurons side by side.

        Parameters
        ----------
        instances : array_like of int or bool, optional
            Only the states of these instances, as for `histogram`.

        Returns
        -------
        pandas.DataFrame
            A row for each `neuron`, from 0 on, with the columns `fired` (in how many states),
            `rate` (in which share of them, 0 to 1), `entropy` (of the neuron alone, in bits),
            `dead` (it never fires) and `always_on` (it fires in every state).

        Raises
        ------
        ValueError, IndexError, DamagedChunkError
            As for `firing_counts`.

        Examples
        --------
        >>> import tensorstate as ts
        >>> layer = ts.StateRecorder("layer")
        >>> layer.record([[1.0, -1.0, 2.0], [1.0, 2.0, -1.0]])
        >>> layer.neuron_summary()[["rate", "entropy", "always_on"]].to_numpy().tolist()
        [[1.0, 0.0, True], [0.5, 1.0, False], [0.5, 1.0, False]]
        """
        return neuron_table(*self._add_up(firing_counts, instances))

    def multi_information(self, estimator: str = "plugin") -> float:
        """Multi-information of the neurons: what they tell about each other, in bits.

        The sum of the entropies of all neurons alone less the entropy of the states.

        Parameters
        ----------
        estimator : str, default "plugin"
            How the entropy of the states is estimated; those of single neurons are plug-in
            estimates, which are good where there are many more than two states.

        Returns
        -------
        float
            0 if neurons fire independently of each other. Where the sample is too small for the
            entropy of the states, this is too large.

        References
        ----------
        S. Watanabe, IBM Journal of Research and Development 4 (1960) 66-82.
        """
        entropy = self.entropy(estimator=estimator)
        return multi_information(*self._add_up(firing_counts, None), entropy)

    def _add_up(
        self, count: CountNeurons, instances: ArrayLike | None
    ) -> tuple[NDArray[np.int64], int]:
        """Return what a function counts in the states of instances, and how many these are."""
        histogram = self._known_states() if instances is None else None
        if histogram is not None:
            return sum_over_states(histogram, count, self.neurons), histogram.total
        rows = self._rows_of(instances)
        return sum_over_rows(rows, count, self.neurons), sum(len(some) for some in rows)


def sum_over_rows(
    rows: Sequence[PartReader | SelectedRows], count: CountNeurons, neurons: int
) -> NDArray[np.int64]:
    """Add up what a function counts in batches of rows.

    Parameters
    ----------
    rows : sequence of PartReader or SelectedRows
        At least one row in all.
    count : callable
        Called with packed states, (n, W) uint8, and the number of neurons.
    neurons : int
        Neurons in a state.

    Returns
    -------
    ndarray of int64
        Of the shape that `count` returns.

    Raises
    ------
    DamagedChunkError
        If a chunk is missing or damaged.
    """
    parts = (some.part if isinstance(some, SelectedRows) else some for some in rows)
    with threads_if(any(part.in_memory for part in parts)):
        where = find_scheduler()
        blocks, _, width = cut(list(rows), where.threads, in_process=where.in_process)
        name = f"neurons-{uuid.uuid4().hex}"
        graph: Graph = {
            (name, number): (_count_block, block, width, count, neurons)
            for number, block in enumerate(blocks)
        }
        work = Work("adding up", "states", sum(block.rows for block in blocks))
        (total,) = compute(graph, [_sum_in_pairs(graph, name)], where, None, work)
    return np.asarray(total)


def sum_over_states(
    histogram: StateHistogram, count: CountNeurons, neurons: int
) -> NDArray[np.int64]:
    """Add up what a function counts in the rows that a histogram was made of.

    A state that was seen n times counts n times: for each binary digit of n, states that have it
    are counted together, and what is found weighs as much as the digit.

    Parameters
    ----------
    histogram : StateHistogram
        Of states of at most 16 bytes.
    count, neurons
        As for `sum_over_rows`.

    Returns
    -------
    ndarray of int64
        Of the shape that `count` returns.
    """
    total = count(np.empty((0, histogram.width), np.uint8), neurons)
    for states, counts in distinct_states(histogram):
        for digit in range(int(counts.max()).bit_length()):
            total += count(states[counts >> digit & 1 == 1], neurons) << digit
    return total


def _sum_in_pairs(graph: Graph, name: str) -> Key:
    """Add tasks that add up results in pairs, so that few are in memory at once."""
    keys: list[Key] = [*graph]
    while len(keys) > 1:
        sums: list[Key] = []
        for pair in (keys[start : start + 2] for start in range(0, len(keys), 2)):
            sums.append((name, len(graph)) if len(pair) == 2 else pair[0])
            if len(pair) == 2:
                graph[sums[-1]] = (operator.add, *pair)
        keys = sums
    return keys[0]


def _count_block(block: Block, width: int, count: CountNeurons, neurons: int) -> NDArray[np.int64]:
    total = count(np.empty((0, width), np.uint8), neurons)
    for rows in read(block, width):
        total += count(rows, neurons)
    return total
