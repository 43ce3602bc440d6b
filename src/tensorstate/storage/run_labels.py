"""Labels of a run's instances, stored beside its layers.

::

    run.zarr/.labels        int32 (instances,): which of the attribute ``names`` an instance has
"""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import ArrayNotFoundError, NodeTypeValidationError

from tensorstate.storage.labels import label_codes
from tensorstate.storage.stores import to_write

__all__ = ["load_labels", "store_labels"]

_NAME = ".labels"  # the name of no layer
_UNWRITTEN = -1


def store_labels(group: zarr.Group, labels: ArrayLike, instances: int) -> None:
    """Store a label for each instance, in place of those that were there.

    Raises
    ------
    TypeError, ValueError
        As for `label_codes`.
    OSError
        If nothing can be written there.
    """
    names, codes = label_codes(labels, instances)
    zarr.create_array(
        to_write(group.store_path / _NAME),
        data=codes.astype(np.int32),
        compressors=[BloscCodec(cname="lz4"), Crc32cCodec()],
        fill_value=_UNWRITTEN,
        attributes={"names": names},
        overwrite=True,
    )


def load_labels(group: zarr.Group, where: str) -> NDArray[Any] | None:
    """Return the stored labels, (instances,); None if there are none.

    Raises
    ------
    ValueError
        If they are damaged, or whoever stored them did not come to the end.
    """
    try:
        array = zarr.open_array(group.store_path / _NAME, mode="r")
    except (FileNotFoundError, ArrayNotFoundError, NodeTypeValidationError):
        return None
    names = np.asarray(array.attrs.get("names"))
    codes = np.asarray(array[...])
    if names.ndim != 1 or (len(codes) and not 0 <= codes.min() <= codes.max() < len(names)):
        raise ValueError(f"the labels of run {where} are not complete: set them again")
    labels: NDArray[Any] = names[codes]
    return labels
