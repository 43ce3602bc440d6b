"""Writing what is whole of a damaged run to a new one."""

from __future__ import annotations

import numpy as np

from tensorstate.counting.progress import Advance, Work, show_progress
from tensorstate.storage.format import OFFSETS_OF_CHUNK, LayerInfo
from tensorstate.storage.offsets import divide
from tensorstate.storage.parameters import Parameters
from tensorstate.storage.part import PartReader
from tensorstate.storage.stores import StoreLike, describe_store, store_holds_something
from tensorstate.storage.survey import RunSurvey
from tensorstate.storage.writer import RunWriter

__all__ = ["write_whole"]


def write_whole(
    found: RunSurvey,
    whole: list[tuple[str, range]],
    store: StoreLike,
    model: str,
    parameters: Parameters | None = None,
    progress: bool | None = None,
) -> None:
    """Write instances of a run to a new one, where they keep their numbers.

    Each range of instances becomes a part of the new run, as if a writer of its own had written
    it; if they are all of the first instances, as if one writer had written the run.

    Parameters
    ----------
    found : RunSurvey
        What is stored.
    whole : list of (part, range)
        The instances to write, from `whole_instances`.
    store : path, URL or Zarr store
        Where to; nothing may be there.
    model : str
        Name of the network, for the run's attributes.
    parameters : Parameters, optional
        How many parameters it has.
    progress : bool, optional
        As for `count_states`.

    Raises
    ------
    FileExistsError
        If something is there.
    ValueError
        If no instance is whole, or a layer keeps no raw states of its instances.
    OSError
        If nothing can be written there.
    """
    if store_holds_something(store):
        raise FileExistsError(
            f"{describe_store(store)} holds something already: salvage to a new store"
        )
    for name, layer in found.layers.items():
        if layer.info.histogram == "live":
            raise ValueError(
                f"run {found.where}, layer {name} was captured with histogram='live', which keeps "
                "no raw states: its instances cannot be told apart, and so not be salvaged"
            )
    if not whole:
        raise ValueError(f"run {found.where} has no instance that is whole in every layer")
    instances = sum(len(some) for _, some in whole)
    work = Work("salvaging", "instances of all layers", instances * len(found.layers))
    with show_progress(work, progress) as advance:
        _write(found, whole, store, model, parameters, advance)


def _write(
    found: RunSurvey,
    whole: list[tuple[str, range]],
    store: StoreLike,
    model: str,
    parameters: Parameters | None,
    advance: Advance,
) -> None:
    alone = len(whole) == 1 and whole[0][1].start == 0
    for part, instances in whole:
        writer = RunWriter(
            store,
            layers=len(found.layers),
            model=model,
            part=None if alone else f"from-{instances.start}",
            first_instance=None if alone else instances.start,
        )
        try:
            if parameters is not None:
                writer.set_parameters(parameters)
            for name, layer in found.layers.items():
                writer.add_layer(name, layer.info)
                _copy(layer.parts[part], layer.info, instances, writer, name, advance)
        finally:
            writer.close()


def _copy(
    reader: PartReader,
    info: LayerInfo,
    instances: range,
    writer: RunWriter,
    name: str,
    advance: Advance,
) -> None:
    extents = reader.extents(info.positions)
    most = max(writer.piece_bytes // info.width, 1)
    numbers = range(instances.start - reader.first_instance, instances.stop - reader.first_instance)
    for begin in range(0, len(numbers), OFFSETS_OF_CHUNK):
        starts, stops = extents.bounds(np.array(numbers[begin : begin + OFFSETS_OF_CHUNK]))
        lengths = stops - starts
        for some in divide(lengths, most):
            rows = reader[int(starts[some][0]) : int(stops[some][-1])]
            writer.put(name, rows, lengths[some] if info.positions is None else None)
            advance(len(lengths[some]))
