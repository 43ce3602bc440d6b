"""What single neurons of a layer do, added up over its rows, out of core and in parallel."""

from __future__ import annotations

import operator
import uuid
from abc import abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tensorstate.counting.computing import compute
from tensorstate.counting.progress import Work
from tensorstate.counting.schedulers import Graph, Key, find_scheduler, threads_if
from tensorstate.counting.sources import Block, cut, read
from tensorstate.firing import check_paired_neurons, cofiring_counts, firing_counts
from tensorstate.metrics import multi_information, neuron_table
from tensorstate.storage.part import PartReader
from tensorstate.storage.selection import SelectedRows

__all__ = ["NeuronStatistics", "sum_over_rows"]


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

    def firing_counts(self, instances: ArrayLike | None = None) -> NDArray[np.int64]:
        """Count in how many states each neuron fires.

        All rows are read, chunk by chunk; `neuron_summary` says what follows from the counts.

        Parameters
        ----------
        instances : array_like of int or bool, optional
            Only the states of these instances, as for `histogram`.

        Returns
        -------
        ndarray of int64, shape (neurons,)

        Raises
        ------
        ValueError, IndexError, DamagedChunkError
            As for `histogram`.
        """
        return self._fired(instances)[0]

    def cofiring_counts(self, instances: ArrayLike | None = None) -> NDArray[np.int64]:
        """Count in how many states two neurons fire together, for each pair of neurons.

        Parameters
        ----------
        instances : array_like of int or bool, optional
            Only the states of these instances, as for `histogram`.

        Returns
        -------
        ndarray of int64, shape (neurons, neurons)
            Symmetric, with `firing_counts` on the diagonal.

        Raises
        ------
        ValueError
            As for `histogram`; or if the layer has more than 4,096 neurons.
        IndexError, DamagedChunkError
            As for `histogram`.
        """
        check_paired_neurons(self.neurons)
        return sum_over_rows(self._rows_of(instances), cofiring_counts, self.neurons)

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
            As for `histogram`.

        Examples
        --------
        >>> import tensorstate as ts
        >>> layer = ts.StateRecorder("layer")
        >>> layer.record([[1.0, -1.0, 2.0], [1.0, 2.0, -1.0]])
        >>> layer.neuron_summary()[["rate", "entropy", "always_on"]].to_numpy().tolist()
        [[1.0, 0.0, True], [0.5, 1.0, False], [0.5, 1.0, False]]
        """
        return neuron_table(*self._fired(instances))

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
        return multi_information(*self._fired(None), entropy)

    def _fired(self, instances: ArrayLike | None) -> tuple[NDArray[np.int64], int]:
        """Return in how many states each neuron fires, and how many states there are."""
        rows = self._rows_of(instances)
        fired = sum_over_rows(rows, firing_counts, self.neurons)
        return fired, sum(len(some) for some in rows)


def sum_over_rows(
    rows: Sequence[PartReader | SelectedRows],
    count: Callable[[NDArray[np.uint8], int], NDArray[np.int64]],
    neurons: int,
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
        (total,) = compute(graph, [_add_up(graph, name)], where, None, work)
    return np.asarray(total)


def _add_up(graph: Graph, name: str) -> Key:
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


def _count_block(
    block: Block, width: int, count: Callable[..., NDArray[np.int64]], neurons: int
) -> NDArray[np.int64]:
    total = count(np.empty((0, width), np.uint8), neurons)
    for rows in read(block, width):
        total += count(rows, neurons)
    return total
