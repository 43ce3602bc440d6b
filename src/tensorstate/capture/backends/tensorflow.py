"""Captures on Keras's TensorFlow backend."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import tensorflow as tf

from tensorstate.capture.backends import TensorInfo
from tensorstate.capture.recorder import StateRecorder

# A host callback cannot be compiled by XLA.
SUPPORTS_JIT = False
KEEPS_FAILURES = False


def record(recorder: StateRecorder, tensor: Any, mask: Any = None) -> Any:
    """Record a tensor of a running or traced model on the host, and return its equal to go on with.

    The callback gets the tensor's own memory, and packing is the only pass over it. What follows
    in the model waits for the callback: the memory is free again then, and TensorFlow computes the
    next layer in place instead of taking fresh pages for every batch.
    """
    # TensorFlow keeps every callback as long as the process lives, and a recorder holds a run.
    recorder_ref = weakref.ref(recorder)

    def record_on_host(array: Any, mask: Any = None) -> list[Any]:
        recorder = recorder_ref()
        if recorder is not None:
            recorder.record_where(array, mask)
        return []

    arrays = [tensor] if mask is None else [tensor, mask]
    # Being stateful, the callback runs once in every pass, in the order of the program.
    recorded = tf.numpy_function(record_on_host, arrays, [], stateful=True)
    if tf.executing_eagerly():
        return tensor
    with tf.control_dependencies([recorded]):
        same = tf.identity(tensor)
    keras_mask = getattr(tensor, "_keras_mask", None)
    if keras_mask is not None:
        same._keras_mask = keras_mask
    return same


def ordered() -> AbstractContextManager[None]:
    """Do nothing: stateful functions are run in the order of the program."""
    return nullcontext()


def raise_failure(model: keras.Model | None = None) -> None:
    """Do nothing: what fails in a capture is raised at once."""


def settle() -> None:
    """Return at once: a pass ends after its callbacks."""


def trace() -> Any:
    """Return the graph being built, or None when running eagerly."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def info(tensor: Any) -> TensorInfo | None:
    """Describe a tensor; None if it is something else."""
    if not isinstance(tensor, tf.Tensor):
        return None
    dtype = tensor.dtype
    shape = None if tensor.shape.rank is None else tuple(tensor.shape)
    return TensorInfo(dtype.name, shape, dtype.is_floating or dtype.is_integer or dtype.is_bool)
