"""Captures on Keras's JAX backend.

JAX's callbacks hand out arrays that may not be there yet: inside of the callback their values
cannot be waited for where the machine has one core, and outside of it they would pile up without
bounds. So values are read by another kind of callback, which sees the buffers of the running
program in place, and JAX's ordered callbacks before and after it only keep the order: they pass
on a number.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import io_callback
from jax.experimental.buffer_callback import buffer_callback
from jax.extend.core import get_opaque_trace_state
from keras.src.backend.common.stateless_scope import get_stateless_scope

from tensorstate.capture.backends import TensorInfo
from tensorstate.capture.recorder import StateRecorder

SUPPORTS_JIT = True

_NUMBER = jax.ShapeDtypeStruct((), np.int32)
_ZERO = np.int32(0)


@dataclass(frozen=True)
class _OnHost:
    """The callback of a recorder; equal for the same one, so that JAX compiles it once."""

    # JAX keeps callbacks of what it compiled, and a recorder holds a run.
    recorder_ref: weakref.ref[StateRecorder]

    def __call__(self, context: Any, number: Any, tensor: Any, turn: Any) -> None:
        recorder = self.recorder_ref()
        if recorder is not None:
            recorder.record(np.asarray(tensor))
        np.asarray(number)[...] = 0


def record(recorder: StateRecorder, tensor: Any) -> Any:
    """Record a tensor of a running or traced model on the host, and return it."""
    if not isinstance(tensor, jax.core.Tracer):
        if not _in_build_pass():
            settle()
            recorder.record(np.asarray(tensor))
        return tensor
    on_host = _OnHost(weakref.ref(recorder))
    turn = io_callback(_next, _NUMBER, _ZERO, ordered=True)
    values = jax.lax.stop_gradient(tensor)
    recorded = buffer_callback(on_host, _NUMBER, has_side_effect=True)(values, turn)
    io_callback(_done, None, recorded, ordered=True)
    return tensor


def _in_build_pass() -> bool:
    """Whether Keras runs a model on the first batch of `predict` only to make its variables.

    Such a pass knows no values of variables; one that counts is given all of them, or is in no
    stateless scope.
    """
    scope = get_stateless_scope()
    return scope is not None and not scope.state_mapping


def _next(number: Any) -> Any:
    return _ZERO


def _done(number: Any) -> None:
    """Nothing is left to do: what comes next in the order of the program may run."""


def settle() -> None:
    """Return when every pass that was started has recorded what it had to."""
    jax.effects_barrier()


def trace() -> Any:
    """Return what the current trace is known by."""
    return get_opaque_trace_state()


def info(tensor: Any) -> TensorInfo | None:
    """Describe a tensor; None if it is something else."""
    if not isinstance(tensor, jax.Array):
        return None
    kinds = (np.floating, np.integer, np.bool_)
    is_real = any(jax.dtypes.issubdtype(tensor.dtype, kind) for kind in kinds)
    return TensorInfo(tensor.dtype.name, tensor.shape, is_real)
