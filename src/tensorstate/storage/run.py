"""A stored run, reopened: a mapping of layer names to their states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import zarr
from zarr.abc.store import Store

from tensorstate.storage.cache import HistogramCache
from tensorstate.storage.format import open_format
from tensorstate.storage.layer import LayerStates, StoredLayer
from tensorstate.storage.stores import StoreLike, describe_store
from tensorstate.storage.survey import survey

__all__ = ["StateRun", "open_run", "summary_of"]


class StateRun(Mapping[str, LayerStates]):
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
        self._about: dict[str, Any] = dict(group.attrs["tensorstate"])  # type: ignore[arg-type]
        found = survey(group, where)
        found.check_disjoint()
        self._instances = found.instances
        self._parts = found.committed
        self._layers = {}
        for name, stored in sorted(found.layers.items(), key=lambda layer: layer[1].info.index):
            cache = HistogramCache(stored.group.store_path, stored.info.width, writable=writable)
            self._layers[name] = StoredLayer(name, stored.info, found.readers(name), cache)

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

    def summary(self) -> pd.DataFrame:
        """Count every layer and lay the numbers side by side.

        Returns
        -------
        pandas.DataFrame
            A row for each layer, named `layer`, with the columns `neurons`, `positions` (states of
            one instance; missing where instances differ in them), `instances`, `states`,
            `distinct` (states), `entropy` (bits, Shannon, plug-in) and `efficiency` (0 to 1). A
            layer without states has NaN in the last two.
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
        If what is there is not a run, or one of a newer format, if it is damaged, or if parts of
        several writers have the same instances.
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
    "positions": "Int64",  # which may be missing
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
