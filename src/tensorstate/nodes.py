"""Zarr groups and arrays from stores that nobody vouches for.

Zarr runs whatever codec metadata name, and makes room for whatever sizes they claim. What the
package stores needs little of that, and nothing else is opened: format 3, numbers of a few types,
chunks that fit in memory, and the codecs ``bytes``, ``blosc`` and ``crc32c``.

Attributes carry a checksum of themselves, and those of a group also of its name: the XXH3-64 of
both as JSON with sorted names. Nodes that were stored without one are taken as they are.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from reprlib import repr as brief
from typing import Any, TypeGuard, TypeVar

import numpy as np
import xxhash
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.group import AsyncGroup, GroupMetadata
from zarr.core.metadata import ArrayV3Metadata
from zarr.core.sync import sync
from zarr.storage import LocalStore, StorePath

from tensorstate.contained import ContainedStore

__all__ = [
    "BLOSC_HEADER",
    "BLOSC_PLAIN",
    "CHECKSUM",
    "DamagedMetadataError",
    "MOST_CHUNK_BYTES",
    "MOST_LENGTH",
    "check_blosc",
    "check_checksum",
    "digest_of",
    "is_whole_number",
    "read_array",
    "read_group",
    "read_node",
    "update_attributes",
    "with_checksum",
]

CHECKSUM = "checksum"
MOST_CHUNK_BYTES = 64 << 20
"""Chunks of more bytes are not read; those that are written have some megabytes."""

MOST_LENGTH = 1 << 48
"""No axis is longer, and no instance has a larger number."""

_METADATA = "zarr.json"
_TYPES = {"uint8": 1, "int32": 4, "int64": 8, "uint64": 8}
_CODECS = (["bytes"], ["bytes", "crc32c"], ["bytes", "blosc"], ["bytes", "blosc", "crc32c"])

BLOSC_HEADER = struct.Struct("<4B3I")
"""Versions of blosc and codec, flags, bytes of an element; bytes of the content, of a block, and
of all that is compressed, the header included."""

BLOSC_PLAIN = 2
"""Blosc's flag of what is stored as it is."""

_Node = TypeVar("_Node", zarr.Group, "zarr.Array[Any]")


class DamagedMetadataError(ValueError):
    """What says which states are stored is missing or makes no sense."""


@dataclass(frozen=True, init=False)
class _BoundedBlosc(BloscCodec):
    """Blosc, which makes no more room than the chunk has, whatever is stored claims."""

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        _check_size(chunk_bytes, chunk_spec)
        return super()._decode_sync(chunk_bytes, chunk_spec)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        _check_size(chunk_bytes, chunk_spec)
        return await super()._decode_single(chunk_bytes, chunk_spec)


def _check_size(stored: Buffer, spec: ArraySpec) -> None:
    size = math.prod(spec.shape) * spec.dtype.to_native_dtype().itemsize
    check_blosc(stored.as_numpy_array(), size)


def check_blosc(stored: NDArray[Any], size: int) -> bool:
    """Check that blosc says that it compressed `size` bytes to just what is stored.

    Parameters
    ----------
    stored : (n,) uint8
        What blosc wrote.
    size : int
        Bytes of the chunk.

    Returns
    -------
    bool
        Whether they are not compressed, but stored as they are after blosc's header.

    Raises
    ------
    ValueError
        If it says something else.
    """
    if len(stored) < BLOSC_HEADER.size:
        raise ValueError(f"it has {len(stored)} bytes, which are too few for blosc")
    header = stored[: BLOSC_HEADER.size].tobytes()
    _, _, flags, _, unpacked, block, packed = BLOSC_HEADER.unpack(header)
    is_plain = bool(flags & BLOSC_PLAIN)
    if unpacked != size or packed != len(stored) or block > size:
        raise ValueError(
            f"it says that {unpacked} bytes in blocks of {block} were compressed to {packed}, "
            f"and not {size} to {len(stored)}"
        )
    if is_plain and packed != BLOSC_HEADER.size + size:
        raise ValueError(f"it says that {size} bytes are stored as they are, in {packed}")
    return is_plain


def read_node(path: StorePath) -> dict[str, Any] | None:
    """Read the metadata of a group or an array; None if nothing is there.

    Raises
    ------
    ValueError
        If they are no metadata of Zarr's format 3.
    """
    document = sync((path / _METADATA).get(default_buffer_prototype()))
    if document is None:
        return None
    try:
        node = json.loads(document.to_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"they are no JSON ({type(error).__name__})") from error
    if not isinstance(node, dict) or node.get("zarr_format") != 3:
        raise _damaged(path, "they are not those of a node of Zarr's format 3")
    if node.get("node_type") not in ("group", "array"):
        raise _damaged(
            path, f"they are of {brief(node.get('node_type'))}, not of a group or an array"
        )
    if not isinstance(node.setdefault("attributes", {}), dict):
        raise _damaged(path, "their attributes are no names with values")
    return node


def read_group(path: StorePath) -> zarr.Group | None:
    """Open a group, writable if its store is; None if there is none.

    Raises
    ------
    ValueError
        If its metadata are damaged.
    """
    node = read_node(path)
    if node is None or node["node_type"] != "group":
        return None
    return zarr.Group(AsyncGroup(GroupMetadata(attributes=node["attributes"]), store_path=path))


def read_array(path: StorePath) -> zarr.Array[Any] | None:
    """Open an array, writable if its store is; None if there is none.

    Raises
    ------
    ValueError
        If its metadata are damaged, or of an array that the package does not write.
    """
    node = read_node(path)
    if node is None or node["node_type"] != "array":
        return None
    problem = _problem(node)
    if problem:
        raise _damaged(path, problem)
    try:
        metadata = ArrayV3Metadata.from_dict(node)
    except Exception as error:  # Zarr has no error of its own for that: it runs into any
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    codecs = tuple(map(_bounded, metadata.codecs))
    return zarr.Array(zarr.AsyncArray(replace(metadata, codecs=codecs), path))


def _bounded(codec: Any) -> Any:
    if not isinstance(codec, BloscCodec):
        return codec
    return _BoundedBlosc.from_dict(codec.to_dict())


def _problem(node: Mapping[str, Any]) -> str:
    """Return what speaks against an array, before Zarr is asked to make one of it."""
    kind = node.get("data_type")
    if not isinstance(kind, str) or kind not in _TYPES:
        return f"its type is {brief(kind)}, and not one of {', '.join(_TYPES)}"
    shape = node.get("shape")
    if not _are_lengths(shape, least=0):
        return f"its shape is {brief(shape)}"
    chunks = _configured(node.get("chunk_grid"), "regular", "chunk_shape")
    if not _are_lengths(chunks, least=1) or len(chunks) != len(shape):
        return f"its chunks have the shape {brief(chunks)}"
    if math.prod(chunks) * _TYPES[kind] > MOST_CHUNK_BYTES:
        return f"its chunks of the shape {tuple(chunks)} have more than {MOST_CHUNK_BYTES} bytes"
    if _configured(node.get("chunk_key_encoding"), "default", "separator") != "/":
        return "its chunks have names that are not those of the package"
    codecs = node.get("codecs")
    if not isinstance(codecs, list) or [_name(codec) for codec in codecs] not in _CODECS:
        return f"its codecs are {brief(codecs)}, and only bytes, blosc and crc32c are used"
    if node.get("storage_transformers"):
        return "it has storage transformers"
    return ""


def _are_lengths(value: Any, least: int) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= 2
        and all(is_whole_number(length, least) and length <= MOST_LENGTH for length in value)
    )


def is_whole_number(value: Any, least: int = 0) -> TypeGuard[int]:
    """Whether something read from JSON is a whole number, and no less than `least`.

    Examples
    --------
    >>> is_whole_number(3), is_whole_number(True), is_whole_number(2.0), is_whole_number(-1)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _configured(value: Any, name: str, key: str) -> Any:
    """Return a setting of something with a name and a configuration; None if it has another."""
    if not isinstance(value, dict) or value.get("name") != name:
        return None
    settings = value.get("configuration")
    return settings.get(key) if isinstance(settings, dict) else None


def _name(codec: Any) -> Any:
    return codec.get("name") if isinstance(codec, dict) else codec


def _damaged(path: StorePath, problem: str) -> DamagedMetadataError:
    return DamagedMetadataError(f"the metadata of {path} are damaged: {problem}")


def digest_of(values: NDArray[Any]) -> bytes:
    """Return the XXH3-64 of the bytes of an array, 8 bytes, the most significant first.

    Examples
    --------
    >>> import numpy as np
    >>> digest_of(np.arange(3)).hex()
    '7fb6f0c094f81c5d'
    """
    return xxhash.xxh3_64_digest(np.ascontiguousarray(values).data)


def with_checksum(name: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with the checksum of themselves and of the name that they belong to.

    Parameters
    ----------
    name : str
        Of a group; empty for an array, and for a group that has none.
    attributes : mapping of str to JSON types
        The attributes.

    Examples
    --------
    >>> with_checksum("layer", {"neurons": 8})
    {'neurons': 8, 'checksum': 'fca4baec892aa71f'}
    """
    others = {key: value for key, value in attributes.items() if key != CHECKSUM}
    text = json.dumps([name, others], sort_keys=True, separators=(",", ":"))
    return {**others, CHECKSUM: xxhash.xxh3_64_hexdigest(text.encode())}


def check_checksum(
    name: str, attributes: Mapping[str, Any], where: str, *, required: bool = False
) -> None:
    """Raise ValueError unless attributes have the checksum that fits them.

    Parameters
    ----------
    name, attributes
        As for `with_checksum`.
    where : str
        Names them in the error.
    required : bool
        Whether it is damage that they have none.
    """
    if CHECKSUM not in attributes and not required:
        return
    try:
        expected = with_checksum(name, attributes)[CHECKSUM]
    except RecursionError as error:
        raise DamagedMetadataError(
            f"{where} has attributes within attributes without end"
        ) from error
    if attributes.get(CHECKSUM) != expected:
        raise DamagedMetadataError(
            f"{where} has attributes with the checksum {brief(attributes.get(CHECKSUM))} instead "
            f"of {expected!r}: its metadata is damaged, or was changed by hand"
        )


def update_attributes(node: _Node, changes: Mapping[str, Any]) -> _Node:
    """Store other attributes, with a checksum that fits, and return the node that has them.

    The node that is given stays as it is: whoever looks at it meanwhile, in another thread, finds
    attributes and shape that belong together.
    """
    merged = {**node.attrs, **changes}
    path = node.store_path
    if isinstance(node, zarr.Group):
        group = GroupMetadata(attributes=with_checksum(node.basename, merged))
        updated = zarr.Group(AsyncGroup(group, store_path=path))
    else:
        inner = node.async_array
        metadata = replace(inner.metadata, attributes=with_checksum("", merged))
        updated = zarr.Array(zarr.AsyncArray(metadata, path, inner.config))
    if type(path.store) not in (LocalStore, ContainedStore):
        return updated.update_attributes({})
    # Zarr's event loop takes longer than a file.
    for key, value in updated.metadata.to_buffer_dict(default_buffer_prototype()).items():
        (path / key).set_sync(value)
    return updated
