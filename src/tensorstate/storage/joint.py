"""Firing patterns of whole instances, over all positions of one or several layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tensorstate.counting import StateHistogram, count_states
from tensorstate.counting.schedulers import threads_if
from tensorstate.metrics import hamming_kernel, naswot_score
from tensorstate.storage.layer import LayerStates
from tensorstate.storage.rows import RawStates, instance_numbers

__all__ = ["InstancePatterns", "PatternStatistics"]

_READ_BYTES = 16 << 20


class InstancePatterns:
    """What all units of some layers do for each instance: (instances, bytes) uint8.

    A row has the packed states of all positions of the first layer, then those of the next.
    It is read from the store when sliced, as `count_states` does.

    Parameters
    ----------
    layers : sequence of LayerStates
        At least one, of the same instances.

    Attributes
    ----------
    units : int
        Neurons times positions, of all layers.

    Raises
    ------
    ValueError
        If there is no layer, layers have different numbers of instances, or instances of a layer
        differ in their number of positions.
    """

    dtype = np.dtype(np.uint8)
    ndim = 2

    def __init__(self, layers: Sequence[LayerStates]) -> None:
        if not layers:
            raise ValueError("patterns are those of at least one layer")
        counts = {layer.name: layer.instance_count for layer in layers}
        if len(set(counts.values())) > 1:
            raise ValueError(f"layers have different numbers of instances: {counts}")
        self._layers: list[tuple[RawStates, int]] = []
        self.units = width = 0
        for layer in layers:
            if layer.positions is None:
                raise ValueError(
                    f"instances of layer {layer.name!r} differ in their number of positions, so "
                    "that their patterns cannot be compared: choose other layers"
                )
            rows = layer.raw_states
            self._layers.append((rows, layer.positions))
            self.units += layer.neurons * layer.positions
            width += rows.shape[1] * layer.positions
        self.shape = (layers[0].instance_count, width)
        self.in_memory = any(rows.in_memory for rows, _ in self._layers)

    @property
    def chunks(self) -> tuple[int, int]:
        """Rows and bytes that are read together."""
        return max(min(_READ_BYTES // self.shape[1], self.shape[0]), 1), self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, instances: slice | NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        if isinstance(instances, slice):
            start, stop, step = instances.indices(len(self))
            if step == 1:
                stop = max(start, stop)
                return self._side_by_side(
                    [rows[start * n : stop * n] for rows, n in self._layers], stop - start
                )
            instances = np.arange(start, stop, step)
        chosen = np.asarray(instances, np.int64)[:, None]
        return self._side_by_side(
            [rows[(chosen * n + np.arange(n)).ravel()] for rows, n in self._layers], len(chosen)
        )

    def _side_by_side(
        self, states: Sequence[NDArray[np.uint8]], instances: int
    ) -> NDArray[np.uint8]:
        sizes = (n * rows.shape[1] for rows, n in self._layers)
        return np.concatenate(
            [rows.reshape(instances, size) for rows, size in zip(states, sizes, strict=True)],
            axis=1,
        )


class PatternStatistics(Mapping[str, LayerStates]):
    """What patterns of whole instances tell: the part of `StateRun` that tells it."""

    def linear_regions(self, layers: Sequence[str] | None = None, **limits: Any) -> StateHistogram:
        """Count the distinct patterns that instances have, over all units of layers.

        A network of rectified linear units is linear where none of them changes between firing
        and not: each pattern of all of them is a region of the inputs. ``distinct`` of the result
        is how many regions the instances lie in.

        Parameters
        ----------
        layers : sequence of str, optional
            Names of the layers; all by default.
        **limits
            `memory_limit`, `spill` and `progress`, as for `count_states`.

        Returns
        -------
        StateHistogram
            Of patterns; a first row is the place of an instance.

        Raises
        ------
        KeyError
            If there is no such layer.
        ValueError
            If there is no layer, or none has states.

        References
        ----------
        G. Montufar, R. Pascanu, K. Cho and Y. Bengio, "On the number of linear regions of deep
        neural networks", NeurIPS 27 (2014).
        """
        patterns = self._patterns(layers)
        with threads_if(patterns.in_memory):
            return count_states(patterns, **limits)

    def hamming_kernel(
        self, instances: ArrayLike, layers: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Of how many units each two of some instances have the same to say.

        Parameters
        ----------
        instances : array_like of int or bool, shape (n,)
            Places of the instances, or a mask: a small batch, whose patterns fit into memory.
        layers : sequence of str, optional
            Names of the layers; all by default.

        Returns
        -------
        pandas.DataFrame of int64
            Units less Hamming distances, a row for each `instance` and a column for each `other`,
            by their places, in the order in which they were given.

        Raises
        ------
        KeyError, ValueError
            As for `linear_regions`.
        IndexError
            If an instance is not there.

        References
        ----------
        J. Mellor et al., ICML (2021), arXiv 2006.04647.
        """
        patterns = self._patterns(layers)
        chosen = instance_numbers(instances, len(patterns))
        alike = hamming_kernel(patterns[chosen], patterns.units)
        rows, columns = (pd.Index(chosen, name=name) for name in ("instance", "other"))
        return pd.DataFrame(alike, rows, columns)

    def naswot_score(self, instances: ArrayLike, layers: Sequence[str] | None = None) -> float:
        """Score of a network by how much the patterns of a small batch differ.

        Parameters
        ----------
        instances, layers
            As for `hamming_kernel`.

        Returns
        -------
        float
            Logarithm of the determinant of the kernel; minus infinity if two patterns are equal.

        References
        ----------
        J. Mellor et al., ICML (2021), arXiv 2006.04647.
        """
        return naswot_score(self.hamming_kernel(instances, layers).to_numpy())

    def _patterns(self, layers: Sequence[str] | None) -> InstancePatterns:
        return InstancePatterns([self[name] for name in (self if layers is None else layers)])
