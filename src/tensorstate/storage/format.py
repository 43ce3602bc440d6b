"""Store format 1: what a run looks like in Zarr, and how one is opened.

::

    run.zarr/                      group: attributes ``tensorstate`` and ``instances``
      conv_1_states/               group: what was captured, and how (`LayerInfo`)
        part-0/states              uint8 (rows, W): attributes ``rows`` and ``uuid``
        histogram/                 cached counts, which may be deleted at any time (`cache`)

Readers trust ``rows`` and never the shape, and a missing chunk is damage, never silence: every
chunk under the committed rows is stored, also one of zeros.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import zarr
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.sync import sync
from zarr.errors import ContainsArrayError, GroupNotFoundError
from zarr.storage import FsspecStore, StorePath

from tensorstate.bits import packed_width

__all__ = [
    "CODECS",
    "FORMAT",
    "Codec",
    "LayerInfo",
    "StoreLike",
    "check_layer_name",
    "create_layer",
    "create_part",
    "create_run",
    "describe_store",
    "committed_instances",
    "is_url",
    "list_names",
    "open_format",
    "store_holds_something",
    "store_identity",
]

FORMAT = 1
Codec = Literal["lz4", "zstd"]
CODECS: tuple[Codec, ...] = get_args(Codec)

StoreLike = str | PathLike[str] | Store

_LIBRARIES = ("tensorstate", "numpy", "zarr", "numcodecs", "keras", "tensorflow", "torch")


@dataclass(frozen=True)
class LayerInfo:
    """What was captured of one layer, and how; the attributes of its group.

    Attributes
    ----------
    neurons : int
        Neurons in a state (the length of the channel axis).
    positions : int
        States of one instance.
    threshold : float
        A neuron fires where its activation is strictly greater.
    channel_axis : int
        Axis of the activations that holds the neurons.
    source_layer : str
        Name or path of the layer in the network.
    index : int
        Place among the captures of the run, in the order in which data meets them.
    """

    neurons: int
    positions: int
    threshold: float = 0.0
    channel_axis: int = -1
    source_layer: str = ""
    index: int = 0

    @property
    def width(self) -> int:
        """Bytes of one packed state."""
        return packed_width(self.neurons)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes as JSON types."""
        return asdict(self)

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], where: str) -> LayerInfo:
        """Read the attributes of a layer's group; `where` names it in an error."""
        try:
            values = {field.name: attributes[field.name] for field in fields(cls)}
        except KeyError as error:
            raise ValueError(
                f"{where} has no attribute {error}: it is not a layer of a run, or it is damaged"
            ) from None
        return cls(**values)


def describe_store(store: StoreLike) -> str:
    """Name a store in a message."""
    if isinstance(store, Store):
        return str(store).removeprefix("file://")
    return str(store)


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
    attributes = {
        "tensorstate": {
            "format": FORMAT,
            "uuid": str(uuid.uuid4()),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
            "model": model,
        },
        "instances": 0,
    }
    try:
        return zarr.create_group(store, overwrite=overwrite, attributes=attributes)
    except OSError as error:
        # The same type of error, with the store and what to do in its text.
        reason = error.strerror or str(error)
        raise OSError(
            error.errno or 0,
            f"cannot write a run there ({reason}): choose a storage path that can be written",
            describe_store(store),
        ) from error


def create_layer(run: zarr.Group, name: str, info: LayerInfo) -> zarr.Group:
    """Create the group of one capture, in place of one that never committed an instance."""
    return run.create_group(name, overwrite=True, attributes=info.attributes())


def create_part(
    layer: zarr.Group, writer: str, width: int, chunk_rows: int, codec: Codec
) -> zarr.Array[Any]:
    """Create the empty states of one writer, with their first committed row still to come."""
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
        attributes={"rows": 0, "uuid": str(uuid.uuid4()), "first_instance": 0},
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
        group = zarr.open_group(store, mode=mode)  # type: ignore[arg-type]
    except ContainsArrayError:
        raise ValueError(f"{where} is not a run of tensorstate, but a Zarr array") from None
    except (GroupNotFoundError, FileNotFoundError, NotADirectoryError, FileExistsError):
        if store_holds_something(store):
            raise ValueError(
                f"{where} is not a run of tensorstate: it holds no Zarr group"
            ) from None
        raise FileNotFoundError(f"there is no run at {where}: nothing is there") from None
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
        raise ValueError(
            f"{run.store_path} says that {instances!r} instances are committed: "
            "its metadata is damaged"
        )
    return instances


def list_names(path: StorePath) -> list[str]:
    """Return the names of what lies in a group, without a look at what it is."""

    async def names() -> list[str]:
        return [name async for name in path.store.list_dir(path.path)]

    return sorted(sync(names()))


def store_holds_something(store: StoreLike) -> bool:
    """Whether anything, a run or not, is stored there already."""
    if isinstance(store, Store):
        return not sync(store.is_empty(""))
    if is_url(store):
        return not sync(FsspecStore.from_url(str(store), read_only=True).is_empty(""))
    path = Path(store)
    return any(path.iterdir()) if path.is_dir() else path.exists()


def store_identity(store: StoreLike) -> str:
    """Return what tells two stores apart within this process."""
    if isinstance(store, Store):
        return str(store)
    if is_url(store):
        return str(store)
    return f"file://{Path(store).absolute().as_posix()}"


def is_url(store: StoreLike) -> bool:
    """Whether a store is named by a URL, as ``s3://bucket/run.zarr``."""
    return isinstance(store, str) and "://" in store


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
