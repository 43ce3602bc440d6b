"""What the writers of a run have committed: its layers, their parts, and the instances of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import zarr

from tensorstate.nodes import DamagedMetadataError, check_checksum, read_array, read_group
from tensorstate.storage.format import LayerInfo, committed_instances, has_checksums
from tensorstate.storage.instances import first_overlap
from tensorstate.storage.listed import listed_layers, missing_layer
from tensorstate.storage.part import PartReader
from tensorstate.storage.stores import list_names

__all__ = ["ONLY_PART", "RunSurvey", "StoredLayerParts", "survey"]

ONLY_PART = "0"
"""The part of a writer that writes a run alone."""

_PREFIX = "part-"


@dataclass
class StoredLayerParts:
    """What is stored of a layer.

    Attributes
    ----------
    group : zarr.Group
        The layer's group.
    info : LayerInfo
        What was captured.
    parts : dict of str to PartReader
        All committed rows of each part, also those of instances that other layers lack.
    """

    group: zarr.Group
    info: LayerInfo
    parts: dict[str, PartReader]


@dataclass(frozen=True)
class RunSurvey:
    """What is stored in a run.

    Attributes
    ----------
    where : str
        Names the run in messages.
    layers : dict of str to StoredLayerParts
        By name.
    bare : list of str
        What has parts, but does not tell what was captured: a writer makes it, or was killed when
        it removed it.
    shared : bool
        Whether the run has parts of several writers, or is to have them: then instances are
        committed part by part. A run that one writer writes alone has its committed instances as
        an attribute of its own.
    alone : int
        How many instances a writer that writes the run alone has committed, as the run says.
    instances : int
        How many instances are committed, those of all parts together.
    committed : dict of str to range
        The numbers of the instances that all layers of a part have committed.
    """

    where: str
    layers: dict[str, StoredLayerParts]
    bare: list[str]
    shared: bool
    alone: int
    instances: int
    committed: dict[str, range]

    def check_disjoint(self) -> None:
        """Raise ValueError if two parts have committed an instance of the same number."""
        overlap = first_overlap(self.committed)
        if overlap is not None:
            ranges = " and ".join(
                f"{name!r} with the instances {r.start} to {r.stop - 1}"
                for name, r in ((name, self.committed[name]) for name in overlap)
            )
            raise ValueError(
                f"run {self.where} has the parts {ranges}: instances of both would count twice, so "
                "write one of these parts again, with mode='w' and another first_instance"
            )

    def readers(self, layer: str) -> list[PartReader]:
        """Return the parts of a layer in the order of their instances, as far as they count."""
        stored = self.layers[layer]
        parts = sorted(stored.parts.items(), key=lambda part: (part[1].first_instance, part[0]))
        if not self.shared:
            return [reader for _, reader in parts]
        return [
            reader.first(len(self.committed[name]), stored.info.positions) for name, reader in parts
        ]


def survey(run: zarr.Group, where: str) -> RunSurvey:
    """Find out what is stored in a run, also while it is written.

    Parameters
    ----------
    run : zarr.Group
        The group of the run.
    where : str
        Names the run in messages.

    Raises
    ------
    ValueError
        If something is damaged; run, layer and part are named.
    """
    layers: dict[str, StoredLayerParts] = {}
    bare = []
    for name in list_names(run.store_path):
        # Locks and metadata are no layers.
        hidden = name.startswith((".", "__")) or name == "zarr.json"
        if hidden or _add_layer(layers, run, name, where):
            continue
        if any(n.startswith(_PREFIX) for n in list_names(run.store_path / name)):
            bare.append(name)
    alone = committed_instances(run)
    listed = _listed(run, alone, layers, bare, where)
    found = {name for layer in layers.values() for name in layer.parts}
    # A writer that makes its layers in these moments is not to be met with some of them: before
    # it commits an instance, all its layers are there.
    for name, layer in layers.items():
        for part in found - layer.parts.keys():
            _add_part(layer, part, f"run {where}, layer {name}", has_checksums(run))
    shared = any(
        name != ONLY_PART or reader.instances is not None
        for layer in layers.values()
        for name, reader in layer.parts.items()
    )
    for owner, name in listed:
        if owner is not None and owner not in layers[name].parts:
            raise missing_layer(f"run {where}, part {owner}", name)
    # A writer that is alone makes layers anew until it has committed an instance.
    if bare and (alone or shared):
        raise DamagedMetadataError(
            f"run {where} has parts of {', '.join(bare)}, but not what was captured there: "
            "metadata are missing, and the run is damaged"
        )
    committed = {name: _committed(name, layers.values(), alone, where) for name in sorted(found)}
    instances = sum(map(len, committed.values())) if shared else alone
    return RunSurvey(where, layers, bare, shared, alone, instances, committed)


def _listed(
    run: zarr.Group, alone: int, layers: dict[str, StoredLayerParts], bare: list[str], where: str
) -> list[tuple[str | None, str]]:
    """Return the parts, None for the run, with each layer that they were committed with.

    A layer that was made meanwhile is added to those that were found.
    """
    who = f"run {where}"
    told: set[tuple[str | None, tuple[str, ...]]] = set()
    if alone:
        told.add((None, listed_layers(run.attrs.asdict(), who)))
    # All layers of a part tell the same.
    told |= {
        (part, listed_layers(reader.attributes, f"{who}, part {part}"))
        for layer in layers.values()
        for part, reader in layer.parts.items()
        if reader.instances
    }
    listed = [(part, name) for part, names in told for name in names if name not in bare]
    for part, name in listed:
        if name not in layers and not _add_layer(layers, run, name, where):
            raise missing_layer(who if part is None else f"{who}, part {part}", name)
    return listed


def _add_layer(layers: dict[str, StoredLayerParts], run: zarr.Group, name: str, where: str) -> bool:
    """Add a layer of the run, if it is there."""
    group = read_group(run.store_path / name)
    if group is not None:
        layers[name] = _stored_layer(group, f"run {where}, layer {name}", has_checksums(run))
    return group is not None


def _stored_layer(group: zarr.Group, where: str, checked: bool) -> StoredLayerParts:
    layer = StoredLayerParts(group, LayerInfo.from_attributes(group.attrs, where), {})
    check_checksum(group.basename, group.attrs, where, required=checked)
    # Listed by name: what else lies there, as a cache, may be damaged without doing harm.
    for name in list_names(group.store_path):
        if name.startswith(_PREFIX):
            _add_part(layer, name.removeprefix(_PREFIX), where, checked)
    return layer


def _add_part(layer: StoredLayerParts, part: str, where: str, checked: bool) -> None:
    """Add a part of a layer, if it has it."""
    folder = f"{_PREFIX}{part}"
    path = layer.group.store_path / folder / "states"
    array = read_array(path)
    if array is None:
        # Metadata come first: chunks without them were not left by a writer that is at its start.
        if "c" not in list_names(path):
            return
        array = read_array(path)
    if array is None:
        raise DamagedMetadataError(f"{where}, {folder} has no array 'states': the run is damaged")
    reader = PartReader(array, f"{where}, part {part}")
    if reader.shape[1] != layer.info.width:
        raise DamagedMetadataError(
            f"{where}, {folder} has states of {reader.shape[1]} bytes, but {layer.info.neurons} "
            f"neurons need {layer.info.width}: the run is damaged"
        )
    if reader.chunks[1] != layer.info.width:
        raise ValueError(
            f"{where}, {folder} has chunks of {reader.chunks[1]} bytes of a state: the run is "
            "damaged"
        )
    if checked and reader.digests is None:
        raise ValueError(
            f"{where}, {folder} lacks the digests of its chunks: its metadata is damaged"
        )
    check_checksum("", reader.attributes, f"{where}, part {part}", required=checked)
    reader.check_backed(layer.info.positions)
    layer.parts[part] = reader


def _committed(part: str, layers: Iterable[StoredLayerParts], alone: int, where: str) -> range:
    """Return the instances that every layer of a part has committed."""
    stored = [(layer.parts[part], layer.info) for layer in layers if part in layer.parts]
    first = {reader.first_instance for reader, _ in stored}
    if len(first) > 1:
        raise DamagedMetadataError(
            f"run {where}, part {part} begins with the instances {sorted(first)} in different "
            "layers: its metadata is damaged"
        )
    start = first.pop()
    # The rows as well: after a kill while rows are dropped, they are fewer than was committed.
    instances = min(
        min(
            alone if reader.instances is None else reader.instances,
            len(reader.extents(info.positions)),
        )
        for reader, info in stored
    )
    return range(start, start + instances)
