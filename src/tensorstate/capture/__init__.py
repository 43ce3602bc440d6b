"""Captures: probes that record the states of a network's layers and change nothing in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tensorstate.capture.recorder import CaptureOptions, StateRecorder
from tensorstate.capture.thresholds import Threshold
from tensorstate.storage import QUEUE_BYTES, Codec, StoreLike

__all__ = [
    "StateRecorder",
    "build_efficiency_model",
    "remove_state_layers",
    "reset_efficiency_model",
]


def build_efficiency_model(
    model: Any,
    attach_to: str | type | Iterable[str | type],
    exclude: str | type | Iterable[str | type] = (),
    method: str = "after",
    storage_path: StoreLike | None = None,
    *,
    mode: str = "x",
    threshold: Threshold = 0.0,
    channel_axis: int = -1,
    codec: Codec = "lz4",
    queue_bytes: int = QUEUE_BYTES,
) -> Any:
    """Return a model that records the states of its layers whenever data passes through it.

    Parameters
    ----------
    model : keras.Model
        A functional, sequential or subclassed model, nested or not. It is not modified: the
        returned model shares its weights, and only that one records.
    attach_to : name, class, or several of them
        Layers to capture: names of classes (``"Conv2D"``), of layers (``"conv_1"``), or classes.
        Layers inside of nested models count as well.
    exclude : name, class, or several of them, optional
        Layers that are not captured although they match.
    method : {"after", "before", "both"}
        What to capture: a layer's output ("conv_1_states"), its first input
        ("conv_1_pre_states"), or both. A layer that is called several times in a pass has a
        capture for every call ("conv_1_states", "conv_1_states_1").
    storage_path : path, URL or Zarr store, optional
        Where the run is stored; without it, states are kept in memory.
    mode : {"x", "w", "resume"}
        What to do with a run that is there already: refuse it, overwrite it, or go on after its
        committed instances.
    threshold : float, sequence of float, or callable, default 0
        A neuron fires where its activation is strictly greater than the number, or than its own
        one of a sequence (layers with other numbers of neurons are refused). A function is called
        once for each layer, with its first activations (neurons on the last axis), and returns
        one or the other for the whole run: ``lambda x: np.median(x, axis=tuple(range(x.ndim -
        1)))`` splits every neuron at the median of the first batch.
    channel_axis : int, default -1
        Axis of the activations that holds the neurons; axis 0 holds the instances.
    codec : {"lz4", "zstd"}
        How chunks are compressed.
    queue_bytes : int, default 256 MiB
        Most bytes of packed states that wait to be written; when reached, the model waits.

    Returns
    -------
    keras.Model
        The efficiency model. ``efficiency_layers`` are its captures, in the order in which data
        meets them. If the inputs of a subclassed model are not known yet, that order, and captures
        of repeated calls, show after its first pass.

    Raises
    ------
    TypeError
        If it is not a model that can be captured.
    ValueError
        If no layer matches, a layer cannot be captured, or an option is unknown.
    FileExistsError
        If the storage path holds a run already, and the mode does not say what to do with it.
    OSError
        If the storage path cannot be written.
    """
    if not _is_keras_model(model):
        raise TypeError(
            f"a {type(model).__name__} cannot be captured: build_efficiency_model takes a Keras 3 "
            "model (for arrays there is StateRecorder)"
        )
    from tensorstate.capture.keras_model import build

    options = CaptureOptions(mode, threshold, channel_axis, codec, queue_bytes)
    return build(model, attach_to, exclude, method, storage_path, options)


def reset_efficiency_model(model: Any) -> None:
    """Forget all states that a model's captures have recorded; they go on from nothing.

    Parameters
    ----------
    model : keras.Model
        A model from `build_efficiency_model`, or one with captures placed by hand.
    """
    from tensorstate.capture.keras_model import captures_of

    for capture in captures_of(model):
        capture.reset_states()


def remove_state_layers(model: Any) -> Any:
    """Close the captures of a model and return it without them.

    Parameters
    ----------
    model : keras.Model
        A model from `build_efficiency_model`, which gives back the original, or a functional or
        sequential one with captures placed by hand, which gives a model with the same weights.

    Returns
    -------
    keras.Model
        The model without captures; what was recorded stays readable.
    """
    from tensorstate.capture.keras_model import without_captures

    return without_captures(model)


def _is_keras_model(model: Any) -> bool:
    """Tell a Keras model without importing Keras."""
    return any(
        base.__name__ == "Model" and base.__module__.split(".")[0] == "keras"
        for base in type(model).__mro__
    )
