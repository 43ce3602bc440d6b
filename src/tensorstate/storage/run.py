"""A stored run, reopened: a mapping of layer names to their states."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
import zarr
from numpy.typing import ArrayLike, NDArray

from tensorstate.metrics import sample_support
from tensorstate.storage.cache import HistogramCache
from tensorstate.storage.format import open_format
from tensorstate.storage.joint import PatternStatistics
from tensorstate.storage.layer import LayerStates
from tensorstate.storage.parameters import Parameters
from tensorstate.storage.reporting import Reported
from tensorstate.storage.run_labels import load_labels, store_labels
from tensorstate.storage.salvage import write_whole
from tensorstate.storage.showing import ShownRun
from tensorstate.storage.stored_layer import StoredLayer
from tensorstate.storage.stores import StoreLike, describe_store, is_writable
from tensorstate.storage.survey import survey
from tensorstate.storage.verification import (
    damage_table,
    find_damage,
    parts_without_digests,
    whole_instances,
)

__all__ = ["StateRun", "open_run", "summary_of"]


class StateRun(PatternStatistics, ShownRun, Reported):
    """A stored run: layer names to layers, in the order in which data met them.

    It shows what was committed when it was opened; open it again to see more. Where several
    writers wrote, each a part of every layer, a layer has the instances of all of them, by the
    numbers that the writers gave them, and only those that all layers of a part have committed.

    Parameters
    ----------
    group : zarr.Group
        The run's group, checked to be one.
    where : str
        Names the store in messages.
    writable : bool, default True
        Whether counts may be cached in the store.
    """

    def __init__(self, group: zarr.Group, where: str, *, writable: bool = True) -> None:
        self._where = where
        self._group = group
        self._writable = writable
        self._about: dict[str, Any] = dict(group.attrs["tensorstate"])  # type: ignore[arg-type]
        self._network = Parameters.from_attributes(group.attrs, f"run {where}")
        found = survey(group, where)
        found.check_disjoint()
        self._found = found
        self._instances = found.instances
        self._parts = found.committed
        self._layers = {}
        for name, stored in sorted(found.layers.items(), key=lambda layer: layer[1].info.index):
            cache = HistogramCache(stored.group.store_path, stored.info.width, writable=writable)
            layer = StoredLayer(name, stored.info, found.readers(name), cache)
            layer._run_labels = partial(load_labels, group, where)
            self._layers[name] = layer

    def __getitem__(self, name: str) -> LayerStates:
        try:
            return self._layers[name]
        except KeyError:
            known = ", ".join(self._layers) or "none"
            raise KeyError(f"no layer {name!r} in run {self._where}; there are: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __contains__(self, name: object) -> bool:
        return name in self._layers

    @property
    def instances(self) -> int:
        """Instances that every layer has committed, and after which a resumed run goes on.

        Of a run with several writers, those of all parts together; `parts` tells where each of
        them goes on.
        """
        return self._instances

    @property
    def parts(self) -> dict[str, range]:
        """Numbers of the instances that every layer has committed of each writer's part.

        A writer of a part goes on with ``parts[name].stop``. A run that one writer wrote alone has
        the part "0", if it has layers.
        """
        return dict(self._parts)

    @property
    def attributes(self) -> dict[str, Any]:
        """Format, uuid, time of creation, library versions and name of the model."""
        return dict(self._about)

    @property
    def parameters(self) -> int | None:
        """Parameters of the network, each counted once, also where layers share it.

        None where that is not known, as for `LayerStates.parameter_count`.
        """
        return None if self._network is None else self._network.total

    @property
    def trainable_parameters(self) -> int | None:
        """Those of the network's parameters that a training may change; None if not known."""
        return None if self._network is None else self._network.trainable

    @property
    def labels(self) -> NDArray[Any] | None:
        """A label for each instance, as `set_labels` stored them; None if it did not.

        Raises
        ------
        ValueError
            If what is stored is damaged.
        """
        return load_labels(self._group, self._where)

    def set_labels(self, labels: ArrayLike) -> None:
        """Store a label for each instance in the run, in place of labels that were there.

        The layers take them where they are not given others: `LayerStates.label_summary`,
        `label_information` and `label_overlap`.

        Parameters
        ----------
        labels : array_like of int, str or bool, shape (instances,)
            A label for every instance; with several writers, for every number up to the last.

        Raises
        ------
        TypeError
            If labels are neither whole numbers nor strings nor bools.
        ValueError
            If there is not one for each instance.
        PermissionError
            If the run was opened from a store that is read-only.
        OSError
            If nothing can be written there.
        """
        if not self._writable:
            raise PermissionError(f"run {self._where} was opened from a read-only store")
        span = max((part.stop for part in self._parts.values()), default=0)
        store_labels(self._group, labels, span)

    def verify(self, progress: bool | None = None) -> pd.DataFrame:
        """Read everything that is committed, and tell what is damaged.

        Every chunk has to be there, to pass its checksum and to have the digest that was committed
        with it, the unused bits of its states have to be 0, and every layer has to have the
        instances that the run has committed. A UserWarning names the parts that have no digests,
        since an earlier version wrote them: of these, a chunk in the place of another is not seen.

        Parameters
        ----------
        progress : bool, optional
            Whether to show how far it is, as for `count_states`.

        Returns
        -------
        pandas.DataFrame
            A row for each damage, and none for a run that is whole: `layer`, `part`, `chunk` (none
            if it is not in a chunk), the instances from `first_instance` to `last_instance` that
            the layer has lost by it, and the `problem` in words. `salvage` writes what is whole
            to a new run.
        """
        unseen = parts_without_digests(self._found)
        if unseen:
            warnings.warn(
                f"run {self._where} has no digests of the chunks of {', '.join(unseen)}, which an "
                "earlier version wrote: a chunk in the place of another is not noticed there",
                stacklevel=2,
            )
        return damage_table(find_damage(self._found, progress))

    def salvage(self, store: StoreLike, progress: bool | None = None) -> StateRun:
        """Write the instances that are whole in every layer to a new run, and open it.

        They keep their numbers: where some are missing in the middle, the new run has parts, as
        if several writers had written it. Labels that `set_labels` stored come along.

        Parameters
        ----------
        store : path, URL or Zarr store
            Where to; nothing may be there.
        progress : bool, optional
            As for `verify`.

        Returns
        -------
        StateRun
            The new run.

        Raises
        ------
        FileExistsError
            If something is there.
        ValueError
            If no instance is whole.
        OSError
            If nothing can be written there.
        """
        whole = whole_instances(self._found, find_damage(self._found, progress))
        try:
            labels = self.labels
        except ValueError:
            labels = None
        model = str(self._about.get("model") or "")
        write_whole(self._found, whole, store, model, self._network, progress)
        salvaged = open_run(store)
        if labels is not None:
            salvaged.set_labels(labels[: whole[-1][1].stop])
        return salvaged

    def summary(self) -> pd.DataFrame:
        """Count every layer and lay the numbers side by side.

        Returns
        -------
        pandas.DataFrame
            A row for each layer, named `layer`, with the columns `neurons`, `parameters` (of the
            layer in the network; missing where that is not known), `positions` (states of
            one instance; missing where they differ in them), `instances`, `states`, `distinct`
            (states), `entropy` (bits, Shannon, plug-in) and `efficiency` (0 to 1); and, for how far
            the sample supports these,
            `singletons` (states seen once), `coverage` (0 to 1), `distinct_at_least` (Chao1),
            `ceiling` (the most that the efficiency can be with so many states) and `flag` (empty,
            or how the sample limits the entropy). `tensorstate.metrics.sample_support` has their
            formulas and the rule of the flag. A layer without states has NaN for what is not
            counted, and no flag.
        """
        return summary_of(self.values())

    def __repr__(self) -> str:
        model = f" of {self._about['model']!r}" if self._about.get("model") else ""
        return f"<StateRun{model} at {self._where}: {len(self)} layers, {self.instances} instances>"


def open_run(store: StoreLike) -> StateRun:
    """Open a stored run for analysis; no deep-learning framework is needed.

    Parameters
    ----------
    store : path, URL or Zarr store
        Where the run was written; also the zip file into which it was packed, which is only read.

    Returns
    -------
    StateRun
        A mapping of layer names to their states.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If what is there is not a run, or one of a newer format, if it is damaged, or if parts of
        several writers have the same instances.
    """
    return StateRun(open_format(store), describe_store(store), writable=is_writable(store))


def summary_of(layers: Any) -> pd.DataFrame:
    """Lay the numbers of layers side by side, as `StateRun.summary` does."""
    rows = [_summary_row(layer) for layer in layers]
    columns = ["layer", *_SUMMARY_TYPES]
    return pd.DataFrame(rows, columns=columns).astype(_SUMMARY_TYPES).set_index("layer")


_SUMMARY_TYPES = {
    "neurons": "int64",
    "parameters": "Int64",  # which may be missing
    "positions": "Int64",  # which may be missing
    "instances": "int64",
    "states": "int64",
    "distinct": "int64",
    "entropy": "float64",
    "efficiency": "float64",
    "singletons": "int64",
    "coverage": "float64",
    "distinct_at_least": "float64",
    "ceiling": "float64",
    "flag": "str",
}


def _summary_row(layer: LayerStates) -> tuple[Any, ...]:
    known = (layer.name, layer.neurons, layer.parameter_count, layer.positions)
    size = (*known, layer.instance_count, layer.state_count)
    if layer.state_count == 0:
        nan = float("nan")
        return (*size, 0, nan, nan, 0, nan, nan, nan, "")
    support = sample_support(*layer.spectrum(), layer.neurons)
    return (
        *size,
        support.distinct,
        layer.entropy(),
        layer.efficiency(),
        support.singletons,
        support.coverage,
        support.distinct_at_least,
        support.ceiling,
        support.flag,
    )
