"""Captures on Keras's torch backend."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
import torch

from tensorstate.capture.backends import TensorInfo
from tensorstate.capture.recorder import StateRecorder
from tensorstate.capture.torch import record_tensor

SUPPORTS_JIT = True
KEEPS_FAILURES = False


def record(recorder: StateRecorder, tensor: Any, mask: Any = None) -> Any:
    """Record a tensor in passing, and return it."""
    # Where Keras only wants to know shapes, there are no values.
    if not tensor.is_meta:
        _record_values(recorder, tensor, mask)
    return tensor


@torch.compiler.disable
def _record_values(recorder: StateRecorder, tensor: Any, mask: Any) -> None:
    if not recorder.capture_on:
        return
    if tensor.device.type != "cpu" and mask is None:
        record_tensor(recorder, tensor, f"the activation at capture {recorder.name!r}")
        return
    where = None if mask is None else keras.ops.convert_to_numpy(mask)
    recorder.record_where(_as_numpy(tensor.detach().cpu()), where)


def _as_numpy(tensor: Any) -> Any:
    """Return the tensor's own memory as a NumPy array."""
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    # NumPy has no bfloat16 of its own; Keras depends on the package that has.
    import ml_dtypes

    return tensor.view(torch.int16).numpy().view(np.dtype(ml_dtypes.bfloat16))


def ordered() -> AbstractContextManager[None]:
    """Do nothing: recording is part of the running program."""
    return nullcontext()


def raise_failure(model: keras.Model | None = None) -> None:
    """Do nothing: what fails in a capture is raised at once."""


def settle() -> None:
    """Return at once: everything is recorded when the model goes on."""


def trace() -> Any:
    """Return how many transformations, such as `torch.vmap`, the running program is in."""
    interpreter = torch._C._functorch.peek_interpreter_stack()
    return 0 if interpreter is None else interpreter.level()


def info(tensor: Any) -> TensorInfo | None:
    """Describe a tensor; None if it is something else."""
    if not isinstance(tensor, torch.Tensor):
        return None
    name = str(tensor.dtype).removeprefix("torch.")
    return TensorInfo(name, tuple(tensor.shape), not tensor.dtype.is_complex)
