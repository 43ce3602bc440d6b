"""Store format 1: what a run looks like in Zarr, and how one is opened.

::

    run.zarr/                      group: attributes ``tensorstate`` and ``instances``
      conv_1_states/               group: what was captured, and how (`layer_info`)
        part-<writer>/states       uint8 (rows, W): ``rows``, ``uuid``, ``first_instance``
        part-<writer>/counted/     of a live layer: the counts of rows that were dropped (`counted`)
        part-<writer>/offsets      int64, where instances end if they differ in length (`offsets`)
        part-<writer>/digests/     of chunks, as far as metadata do not hold them (`digests`)
        histogram/                 cached counts, which may be deleted at any time (`cache`)

A writer that writes the run alone writes part 0, and keeps the committed instances in the run's
attribute ``instances``. Where several write, each keeps its own in the attribute ``instances`` of
its part in every layer (`survey`).

Readers trust ``rows`` and never the shape, and a missing chunk is damage, never silence: every
chunk under the committed rows is stored, also one of zeros.

Attributes carry a checksum of themselves (`nodes`), and a part has the
digest of every chunk (`digests`). Both came later: a run says with ``checksums`` that they are
everywhere.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from reprlib import repr as brief
from typing import Any, Literal, get_args

import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.group import GroupMetadata
from zarr.core.sync import sync
from zarr.storage import StorePath
from zarr.storage._common import make_store_path

from tensorstate.nodes import (
    MOST_LENGTH,
    DamagedMetadataError,
    check_checksum,
    is_whole_number,
    read_group,
    read_node,
    with_checksum,
)
from tensorstate.storage.digests import no_digests
from tensorstate.storage.layer_info import HISTOGRAMS, Histogram, LayerInfo, check_histogram
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
    "create_group",
    "create_layer",
    "create_part",
    "create_run",
    "has_checksums",
    "join_layer",
    "join_run",
    "open_format",
]

FORMAT = 1
Codec = Literal["lz4", "zstd"]
CODECS: tuple[Codec, ...] = get_args(Codec)

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
        return zarr.create_group(
            as_store(store), overwrite=overwrite, attributes=attributes, zarr_format=3
        )
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
        create_group(StorePath(as_store(store)), _run_attributes(model))
    except OSError as error:
        raise cannot_write(store, error) from error
    return open_format(store, "r+")


def create_layer(run: zarr.Group, name: str, info: LayerInfo) -> zarr.Group:
    """Create the group of one capture, in place of one that never committed an instance."""
    attributes = with_checksum(name, info.attributes())
    return run.create_group(name, overwrite=True, attributes=attributes)


def join_layer(
    run: zarr.Group, name: str, info: LayerInfo, where: str
) -> tuple[zarr.Group, LayerInfo]:
    """Create the group of one capture, or open the one that another writer made.

    Of several writers one creates it, as for `join_run`; what is captured is returned as that one
    stored it. `where` names the capture in an error.
    """
    path = run.store_path / name
    create_group(path, with_checksum(name, info.attributes()))
    group = read_group(path)
    if group is None:
        raise ValueError(f"{where} is no group: the run is damaged")
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
    attributes: dict[str, Any] = {
        "rows": 0,
        "uuid": str(uuid.uuid4()),
        "first_instance": 0,
        "digests": no_digests(),
    }
    if first_instance is not None:
        attributes.update(first_instance=first_instance, instances=0)
    if offsets:
        # Before the states, by which a part is known to be there.
        attributes.update(offsets=0, offsets_digests=no_digests())
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
        attributes=with_checksum("", attributes),
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
    group, is_array = _look(store, mode)
    if group is None and not is_array:
        if not store_holds_something(store):
            raise FileNotFoundError(f"there is no run at {where}: nothing is there")
        # Another process may have created it just now.
        group, is_array = _look(store, mode)
    if is_array:
        raise ValueError(f"{where} is not a run of tensorstate, but a Zarr array")
    if group is None:
        raise ValueError(f"{where} is not a run of tensorstate: it holds no Zarr group")
    about = group.attrs.get("tensorstate")
    if not isinstance(about, Mapping) or not is_whole_number(about.get("format")):
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


def _look(store: StoreLike, mode: str) -> tuple[zarr.Group | None, bool]:
    """Return the group that a store holds, if it does, and whether it holds an array instead."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, FileExistsError):
        opened = as_store(store, read_only=mode == "r")
        path = sync(make_store_path(opened, mode=mode))  # type: ignore[arg-type]
        group = read_group(path)
        node = None if group is not None else read_node(path)
        return group, node is not None and node["node_type"] == "array"
    return None, False


def committed_instances(run: zarr.Group) -> int:
    """Return the instances that every layer of a run has committed.

    Raises
    ------
    ValueError
        If the attribute is not a number of instances.
    """
    instances: Any = run.attrs.get("instances")
    if not is_whole_number(instances) or instances > MOST_LENGTH:
        raise DamagedMetadataError(
            f"{run.store_path} says that {brief(instances)} instances are committed: "
            "its metadata is damaged"
        )
    check_checksum("", run.attrs, f"run {run.store_path}", required=has_checksums(run))
    return instances


def has_checksums(run: zarr.Group) -> bool:
    """Whether everything in a run has checksums and digests: those of earlier versions have not."""
    about: Any = run.attrs["tensorstate"]
    return bool(about.get("checksums"))


def create_group(path: StorePath, attributes: dict[str, Any]) -> None:
    """Store a group if none is there: it is written as a whole, or not at all."""
    metadata = GroupMetadata(attributes=attributes)
    for name, document in metadata.to_buffer_dict(default_buffer_prototype()).items():
        sync((path / name).set_if_not_exists(document))


def _run_attributes(model: str) -> dict[str, Any]:
    attributes = {
        "tensorstate": {
            "format": FORMAT,
            "checksums": True,
            "uuid": str(uuid.uuid4()),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
            "model": model,
        },
        "instances": 0,
    }
    return with_checksum("", attributes)


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
