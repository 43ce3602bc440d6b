"""Store format 1: what a run looks like in Zarr, and how one is opened.

::

    run.zarr/                      group: attributes ``tensorstate`` and ``instances``
      conv_1_states/               group: what was captured, and how (`LayerInfo`)
        part-<writer>/states       uint8 (rows, W): ``rows``, ``uuid``, ``first_instance``
        part-<writer>/counted/     of a live layer: the counts of rows that were dropped (`counted`)
        part-<writer>/offsets      int64, where instances end if they differ in length (`offsets`)
        histogram/                 cached counts, which may be deleted at any time (`cache`)

A writer that writes the run alone writes part 0, and keeps the committed instances in the run's
attribute ``instances``. Where several write, each keeps its own in the attribute ``instances`` of
its part in every layer (`survey`).

Readers trust ``rows`` and never the shape, and a missing chunk is damage, never silence: every
chunk under the committed rows is stored, also one of zeros.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, get_args

import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.group import GroupMetadata
from zarr.core.sync import sync
from zarr.errors import ContainsArrayError, GroupNotFoundError
from zarr.storage import StorePath

from tensorstate.bits import packed_width
from tensorstate.storage.arrays import DamagedRunError
from tensorstate.storage.parameters import Parameters
from tensorstate.storage.stores import (
    StoreLike,
    as_store,
    cannot_write,
    clear_run,
    describe_store,
    local_folder,
    store_holds_something,
)

__all__ = [
    "CODECS",
    "FORMAT",
    "OFFSETS_OF_CHUNK",
    "Codec",
    "HISTOGRAMS",
    "Histogram",
    "LayerInfo",
    "check_histogram",
    "check_layer_name",
    "committed_instances",
    "create_layer",
    "create_part",
    "create_run",
    "join_layer",
    "join_run",
    "open_format",
]

FORMAT = 1
Codec = Literal["lz4", "zstd"]
CODECS: tuple[Codec, ...] = get_args(Codec)
Histogram = Literal["stored", "live"]
HISTOGRAMS: tuple[Histogram, ...] = get_args(Histogram)

# One chunk is read to find an instance, and written again with every chunk of states.
OFFSETS_OF_CHUNK = 1 << 16

_LIBRARIES = (
    "tensorstate",
    "numpy",
    "zarr",
    "numcodecs",
    "keras",
    "tensorflow",
    "torch",
    "jax",
)


@dataclass(frozen=True)
class LayerInfo:
    """What was captured of one layer, and how; the attributes of its group.

    Attributes
    ----------
    neurons : int
        Neurons in a state (the length of the channel axis).
    positions : int or None
        States of one instance; None if instances differ in them.
    threshold : float, or tuple of a float for each neuron
        A neuron fires where its activation is strictly greater.
    channel_axis : int
        Axis of the activations that holds the neurons.
    source_layer : str
        Name or path of the layer in the network.
    index : int
        Place among the captures of the run, in the order in which data meets them.
    histogram : {"stored", "live"}
        Whether states are stored, or counted while they are captured and dropped.
    parameters : Parameters or None
        How many parameters the layer in the network has; None if that is not known.
    """

    neurons: int
    positions: int | None
    threshold: float | tuple[float, ...] = 0.0
    channel_axis: int = -1
    source_layer: str = ""
    index: int = 0
    histogram: Histogram = "stored"
    parameters: Parameters | None = field(default=None, compare=False)  # no part of the states

    @property
    def width(self) -> int:
        """Bytes of one packed state."""
        return packed_width(self.neurons)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes as JSON types."""
        attributes = asdict(self)
        if self.parameters is None:
            del attributes["parameters"]
        return attributes

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], where: str) -> LayerInfo:
        """Read the attributes of a layer's group; `where` names it in an error."""
        try:
            # Layers of earlier versions do not say that their states are stored.
            known = {"histogram": "stored", "parameters": None, **attributes}
            values = {one.name: known[one.name] for one in fields(cls)}
        except KeyError as error:
            raise DamagedRunError(
                f"{where} has no attribute {error}: it is not a layer of a run, or it is damaged"
            ) from None
        if isinstance(values["threshold"], list):
            values["threshold"] = tuple(values["threshold"])
        check_histogram(values["histogram"], f"{where} has an ")
        values["parameters"] = Parameters.from_attributes(known, where)
        return cls(**values)

    def check_goes_on(self, stored: LayerInfo, where: str) -> None:
        """Raise ValueError unless this captures the same states as what is stored."""
        if stored.histogram != self.histogram:
            raise ValueError(
                f"{where} was recorded with histogram={stored.histogram!r}, but is to go on with "
                f"histogram={self.histogram!r}: give the same option, or write it anew"
            )
        # The order of the captures may change between two programs without changing the states.
        if replace(stored, index=self.index) != self:
            raise ValueError(
                f"{where} was recorded as {stored}, but is to go on as {self}: "
                "states of both kinds cannot be mixed in one run"
            )
        if self.parameters is not None:
            self.parameters.check_goes_on(stored.parameters, where)


def check_histogram(histogram: str, context: str = "") -> None:
    """Raise ValueError unless this is a way to keep states; `context` begins the message."""
    if histogram not in HISTOGRAMS:
        choices = ", ".join(map(repr, HISTOGRAMS))
        raise ValueError(f"{context}unknown histogram {histogram!r}: choose one of {choices}")


def check_layer_name(name: str) -> None:
    """Raise ValueError unless the name can be the name of a group in a run."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a capture is text, not {name!r}")
    if not name or "/" in name or "\\" in name or name.startswith((".", "__")) or "\0" in name:
        raise ValueError(
            f"{name!r} cannot name a capture: names are not empty, hold no slash, "
            "and begin with neither '.' nor '__'"
        )


def create_run(store: StoreLike, model: str = "", *, overwrite: bool = False) -> zarr.Group:
    """Create an empty run in a store that holds nothing, or whose run is to be overwritten.

    Raises
    ------
    OSError
        If nothing can be written there.
    """
    attributes = _run_attributes(model)
    folder = local_folder(store)
    try:
        if overwrite and folder is not None:
            clear_run(folder)
            overwrite = False
        return zarr.create_group(as_store(store), overwrite=overwrite, attributes=attributes)
    except OSError as error:
        raise cannot_write(store, error) from error


def join_run(store: StoreLike, model: str = "") -> zarr.Group:
    """Create an empty run, or open the one that is there: of several processes, one creates it.

    That holds where a store creates a key only if it is not there, in one step: on a local disk,
    in memory, on S3, and in an ``ObjectStore`` of Zarr. On others two processes may each create
    the run; the same is stored then but for the uuid and the time, and nothing else is touched.

    Raises
    ------
    OSError
        If nothing can be written there.
    ValueError
        If something else is there.
    """
    try:
        _create_group(StorePath(as_store(store)), _run_attributes(model))
    except OSError as error:
        raise cannot_write(store, error) from error
    return open_format(store, "r+")


def create_layer(run: zarr.Group, name: str, info: LayerInfo) -> zarr.Group:
    """Create the group of one capture, in place of one that never committed an instance."""
    return run.create_group(name, overwrite=True, attributes=info.attributes())


def join_layer(
    run: zarr.Group, name: str, info: LayerInfo, where: str
) -> tuple[zarr.Group, LayerInfo]:
    """Create the group of one capture, or open the one that another writer made.

    Of several writers one creates it, as for `join_run`; what is captured is returned as that one
    stored it. `where` names the capture in an error.
    """
    _create_group(run.store_path / name, info.attributes())
    group = run[name]
    assert isinstance(group, zarr.Group)
    return group, LayerInfo.from_attributes(group.attrs, where)


def create_part(
    layer: zarr.Group,
    writer: str,
    width: int,
    chunk_rows: int,
    codec: Codec,
    first_instance: int | None = None,
    *,
    offsets: bool = False,
) -> zarr.Array[Any]:
    """Create the empty states of one writer, with their first committed row still to come.

    `first_instance` is given for one of several writers, which each commit their own instances.
    `offsets` are kept of instances that differ in length.
    """
    attributes: dict[str, Any] = {"rows": 0, "uuid": str(uuid.uuid4()), "first_instance": 0}
    if first_instance is not None:
        attributes.update(first_instance=first_instance, instances=0)
    if offsets:
        # Before the states, by which a part is known to be there.
        attributes.update(offsets=0)
        _create_offsets(layer, writer, codec)
    return layer.create_array(
        f"part-{writer}/states",
        shape=(0, width),
        chunks=(chunk_rows, width),
        dtype="uint8",
        # Shuffles hurt bits that are packed already; blosc itself would not see a flipped bit.
        compressors=[
            BloscCodec(cname=codec, shuffle="noshuffle", typesize=1),
            Crc32cCodec(),
        ],
        fill_value=0,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )


def _create_offsets(layer: zarr.Group, writer: str, codec: Codec) -> None:
    layer.create_array(
        f"part-{writer}/offsets",
        shape=(0,),
        chunks=(OFFSETS_OF_CHUNK,),
        dtype="int64",
        # Of numbers that grow, the high bytes are much the same.
        compressors=[
            BloscCodec(cname=codec, shuffle="shuffle", typesize=8),
            Crc32cCodec(),
        ],
        fill_value=0,
        config={"write_empty_chunks": True},
    )


def open_format(store: StoreLike, mode: str = "r") -> zarr.Group:
    """Open the group of a run, read-only or ("r+") to go on writing.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If what is there is no run, or one of a newer format.
    """
    where = describe_store(store)
    try:
        opened = as_store(store, read_only=mode == "r")
        # Runs are of Zarr's format 3: stores that take their time are not asked for others.
        group = zarr.open_group(opened, mode=mode, zarr_format=3)  # type: ignore[arg-type]
    except ContainsArrayError:
        raise ValueError(f"{where} is not a run of tensorstate, but a Zarr array") from None
    except (GroupNotFoundError, FileNotFoundError, NotADirectoryError, FileExistsError):
        if store_holds_something(store):
            raise ValueError(
                f"{where} is not a run of tensorstate: it holds no Zarr group"
            ) from None
        raise FileNotFoundError(f"there is no run at {where}: nothing is there") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DamagedRunError(f"{where} has metadata that cannot be read: it is damaged") from error
    about = group.attrs.get("tensorstate")
    if not isinstance(about, Mapping) or not isinstance(about.get("format"), int):
        raise ValueError(
            f"{where} is a Zarr group, but not a run of tensorstate: "
            "it lacks the attribute 'tensorstate' with a format number"
        )
    if about["format"] != FORMAT:
        raise ValueError(
            f"{where} has store format {about['format']}, but this tensorstate "
            f"({_versions().get('tensorstate')}) reads format {FORMAT}: install a newer one"
        )
    return group


def committed_instances(run: zarr.Group) -> int:
    """Return the instances that every layer of a run has committed.

    Raises
    ------
    ValueError
        If the attribute is not a number of instances.
    """
    instances = run.attrs.get("instances")
    if not isinstance(instances, int) or instances < 0:
        raise DamagedRunError(
            f"{run.store_path} says that {instances!r} instances are committed: "
            "its metadata is damaged"
        )
    return instances


def _create_group(path: StorePath, attributes: dict[str, Any]) -> None:
    """Store a group if none is there: it is written as a whole, or not at all."""
    metadata = GroupMetadata(attributes=attributes)
    for name, document in metadata.to_buffer_dict(default_buffer_prototype()).items():
        sync((path / name).set_if_not_exists(document))


def _run_attributes(model: str) -> dict[str, Any]:
    return {
        "tensorstate": {
            "format": FORMAT,
            "uuid": str(uuid.uuid4()),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
            "model": model,
        },
        "instances": 0,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
