"""A stored run, reopened: a mapping of layer names to their states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import zarr
from zarr.abc.store import Store

from tensorstate.storage.cache import HistogramCache
from tensorstate.storage.format import (
    LayerInfo,
    StoreLike,
    committed_instances,
    describe_store,
    list_names,
    open_format,
)
from tensorstate.storage.layer import LayerStates, StoredLayer
from tensorstate.storage.part import PartReader

__all__ = ["StateRun", "open_run", "summary_of"]


class StateRun(Mapping[str, LayerStates]):
    """A stored run: layer names to layers, in the order in which data met them.

    It shows what was committed when it was opened; open it again to see more.

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
        self._about: dict[str, Any] = dict(group.attrs["tensorstate"])  # type: ignore[arg-type]
        self._instances = committed_instances(group)
        layers = [_open_layer(name, member, where, writable) for name, member in group.groups()]
        layers.sort(key=lambda layer: (layer[0], layer[1].name))
        self._layers = {layer.name: layer for _, layer in layers}

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
        """Instances that every layer has committed, and after which a resumed run goes on."""
        return self._instances

    @property
    def attributes(self) -> dict[str, Any]:
        """Format, uuid, time of creation, library versions and name of the model."""
        return dict(self._about)

    def summary(self) -> pd.DataFrame:
        """Count every layer and lay the numbers side by side.

        Returns
        -------
        pandas.DataFrame
            A row for each layer, named `layer`, with the columns `neurons`, `positions` (states of
            one instance), `instances`, `states`, `distinct` (states), `entropy` (bits, Shannon,
            plug-in) and `efficiency` (0 to 1). A layer without states has NaN in the last two.
        """
        return summary_of(self.values())

    def __repr__(self) -> str:
        model = f" of {self._about['model']!r}" if self._about.get("model") else ""
        return f"<StateRun{model} at {self._where}: {len(self)} layers, {self.instances} instances>"

    def _repr_html_(self) -> str:
        return str(self.summary().to_html())


def open_run(store: StoreLike) -> StateRun:
    """Open a stored run for analysis; no deep-learning framework is needed.

    Parameters
    ----------
    store : path, URL or Zarr store
        Where the run was written.

    Returns
    -------
    StateRun
        A mapping of layer names to their states.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If what is there is not a run, or one of a newer format.
    """
    # What was handed over as read-only is not to be written to.
    writable = not (isinstance(store, Store) and store.read_only)
    return StateRun(open_format(store), describe_store(store), writable=writable)


def summary_of(layers: Any) -> pd.DataFrame:
    """Lay the numbers of layers side by side, as `StateRun.summary` does."""
    rows = [_summary_row(layer) for layer in layers]
    columns = ["layer", *_SUMMARY_TYPES]
    return pd.DataFrame(rows, columns=columns).astype(_SUMMARY_TYPES).set_index("layer")


_SUMMARY_TYPES = {
    "neurons": "int64",
    "positions": "int64",
    "instances": "int64",
    "states": "int64",
    "distinct": "int64",
    "entropy": "float64",
    "efficiency": "float64",
}


def _summary_row(layer: LayerStates) -> tuple[Any, ...]:
    size = (layer.name, layer.neurons, layer.positions, layer.instance_count, layer.state_count)
    if layer.state_count == 0:
        return (*size, 0, float("nan"), float("nan"))
    return (*size, int(layer.spectrum()[1].sum()), layer.entropy(), layer.efficiency())


def _open_layer(
    name: str, group: zarr.Group, where: str, writable: bool
) -> tuple[int, StoredLayer]:
    """Return a layer, and its place in the order in which data meets them."""
    where = f"run {where}, layer {name}"
    info = LayerInfo.from_attributes(group.attrs, where)
    parts = []
    # Listed by name: what else lies there, as a cache, may be damaged without doing harm.
    for part_name in list_names(group.store_path):
        if not part_name.startswith("part-"):
            continue
        array = group.get(f"{part_name}/states")
        if not isinstance(array, zarr.Array):
            raise ValueError(f"{where}, {part_name} has no array 'states': the run is damaged")
        reader = PartReader(array, f"{where}, part {part_name.removeprefix('part-')}")
        if reader.shape[1] != info.width:
            raise ValueError(
                f"{where}, {part_name} has states of {reader.shape[1]} bytes, but {info.neurons} "
                f"neurons need {info.width}: the run is damaged"
            )
        parts.append((int(array.attrs.get("first_instance", 0)), part_name, reader))  # type: ignore[arg-type]
    parts.sort(key=lambda part: part[:2])
    cache = HistogramCache(group.store_path, info.width, writable=writable)
    return info.index, StoredLayer(name, info, [reader for _, _, reader in parts], cache)
