"""Labels of a run's instances, stored beside its layers.

::

    run.zarr/.labels        int32 (instances,): which of the attribute ``names`` an instance has
    run.zarr/.labelled      group: tells that there are labels, so that they are missed

The attribute ``digest`` is the XXH3-64 of them all: labels that were stored before are not taken
for those that the names belong to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from tensorstate.nodes import check_checksum, digest_of, read_array, with_checksum
from tensorstate.storage.arrays import read_found
from tensorstate.storage.format import create_group
from tensorstate.storage.labels import label_codes
from tensorstate.storage.stores import list_names, to_write

__all__ = ["load_labels", "store_labels"]

_NAME = ".labels"  # the name of no layer
_MARK = ".labelled"
_UNWRITTEN = -1
_OF_CHUNK = 1 << 20


def store_labels(group: zarr.Group, labels: ArrayLike, instances: int) -> None:
    """Store a label for each instance, in place of those that were there.

    Raises
    ------
    TypeError, ValueError
        As for `label_codes`.
    OSError
        If nothing can be written there.
    """
    names, found = label_codes(labels, instances)
    codes = found.astype(np.int32)
    attributes = {"names": names, "digest": digest_of(codes).hex()}
    path = to_write(group.store_path)
    create_group(path / _MARK, with_checksum(_MARK, {}))
    zarr.create_array(
        path / _NAME,
        data=codes,
        chunks=(max(1, min(len(codes), _OF_CHUNK)),),
        compressors=[BloscCodec(cname="lz4"), Crc32cCodec()],
        fill_value=_UNWRITTEN,
        attributes=with_checksum("", attributes),
        overwrite=True,
        zarr_format=3,
    )


def load_labels(group: zarr.Group, where: str) -> NDArray[Any] | None:
    """Return the stored labels, (instances,); None if there are none.

    Raises
    ------
    ValueError
        If they are damaged, or whoever stored them did not come to the end.
    """
    try:
        array = read_array(group.store_path / _NAME)
        if array is None:
            if list_names(group.store_path / _NAME):
                raise ValueError("their metadata is missing")
            if list_names(group.store_path / _MARK):
                raise ValueError("they are not there any more")
            return None
        names, codes = _names_of(array), _codes_of(array)
        if len(codes) and not 0 <= codes.min() <= codes.max() < len(names):
            raise ValueError("some are not there")
        if array.attrs.get("digest", digest_of(codes).hex()) != digest_of(codes).hex():
            raise ValueError("they are not those that were stored last")
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the labels of run {where} are not complete, or damaged ({error}): set them again"
        ) from error
    labels: NDArray[Any] = names[codes]
    return labels


def _names_of(array: zarr.Array[Any]) -> NDArray[Any]:
    stored: Any = array.attrs.get("names")
    if not isinstance(stored, list) or not all(
        isinstance(name, (int, float, str)) for name in stored
    ):
        raise ValueError("their names are no list of texts or numbers")
    check_checksum("", array.attrs, "they")
    return np.asarray(stored)


def _codes_of(array: zarr.Array[Any]) -> NDArray[np.int32]:
    """Read chunk by chunk, so that no more memory is taken than chunks are there."""
    if array.ndim != 1 or array.dtype != np.int32:
        raise ValueError(f"they are {array.dtype} of the shape {array.shape}")
    codes = [np.empty(0, np.int32)]
    for start in range(0, array.shape[0], array.chunks[0]):
        some, found = read_found(array, start, min(start + array.chunks[0], array.shape[0]))
        if not found:
            raise ValueError("some are not there")
        codes.append(some)
    return np.concatenate(codes)
