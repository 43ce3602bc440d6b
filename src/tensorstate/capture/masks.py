"""The masks that Keras keeps beside tensors, and that tell which of their positions count."""

from __future__ import annotations

from typing import Any

import keras
from keras.src.backend.common.masking import get_keras_mask

__all__ = ["input_mask", "output_mask"]


def input_mask(first: Any, kwargs: dict[str, Any]) -> Any:
    """Return the mask of a layer's first input, in the structure of that; None where there is none.

    A mask that the layer was called with goes before the one that the input carries, as in Keras.
    """
    mask = kwargs.get("mask")
    return keras.tree.map_structure(get_keras_mask, first) if mask is None else mask


def output_mask(layer: keras.layers.Layer, first: Any, mask: Any, output: Any) -> Any:
    """Return the mask of a layer's output, which the next layer will meet; None without one.

    Keras has it computed only after the layer's call.

    Parameters
    ----------
    layer : keras.layers.Layer
        The layer.
    first, mask : tensor or nested tensors
        Its first input, and what `input_mask` said of it before the call.
    output : tensor
        What it gave.
    """
    known = get_keras_mask(output)
    if known is not None or not layer.supports_masking:
        return known
    masks = keras.tree.flatten(layer.compute_mask(first, mask))
    return masks[0] if masks else None
