"""Captures on Keras's JAX backend.

JAX's callbacks hand out arrays that may not be there yet: inside of the callback their values
cannot be waited for where the machine has one core, and outside of it they would pile up without
bounds. So values are read by another kind of callback, which sees the buffers of the running
program in place. Their order in a pass is that of a number that they pass on from one to the next;
the first gets it from one of JAX's ordered callbacks, and the last gives it to another one, so that
passes follow each other.
"""

from __future__ import annotations

import atexit
import math
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import io_callback
from jax.experimental.buffer_callback import buffer_callback
from jax.extend.core import get_opaque_trace_state
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask
from keras.src.backend.common.stateless_scope import get_stateless_scope

from tensorstate.capture.backends import TensorInfo
from tensorstate.capture.batches import PackedBatch
from tensorstate.capture.jax_packing import pack_on_device
from tensorstate.capture.recorder import StateRecorder

SUPPORTS_JIT = True
KEEPS_FAILURES = True

_NUMBER = jax.ShapeDtypeStruct((), np.int32)


@dataclass(frozen=True)
class _OnHost:
    """Records for a recorder; equal for the same one, so that JAX compiles it once."""

    # JAX keeps the callbacks of what it compiled, and a recorder holds a run.
    recorder_ref: weakref.ref[StateRecorder]

    def record(self, values: Any, mask: Any = None) -> None:
        where = None if mask is None else np.asarray(mask)
        self._hand_over(lambda recorder: recorder.record_where(np.asarray(values), where))

    def _hand_over(self, record: Callable[[StateRecorder], None]) -> None:
        recorder = self.recorder_ref()
        # What follows a failure would not be of the same instances in every layer.
        if recorder is None or _failures:
            return
        try:
            record(recorder)
        except Exception as error:
            # The frames of its traceback hold memory that is JAX's, and the recorder.
            _failures.append(error.with_traceback(None))

    def record_in_place(self, context: Any, number: Any, turn: Any, *arrays: Any) -> None:
        self.record(*arrays)
        np.asarray(number)[...] = 0


@dataclass(frozen=True)
class _PackedOnHost(_OnHost):
    """Records states that were packed on the device."""

    neurons: int

    def record_packed(self, packed: Any, nans: Any) -> None:
        batch = PackedBatch(np.asarray(packed), self.neurons, int(nans))
        self._hand_over(lambda recorder: recorder.record_batch(batch))


def record(recorder: StateRecorder, tensor: Any, mask: Any = None) -> Any:
    """Record a tensor of a running or traced model on the host, and return its equal to go on with.

    What follows in the model waits for the callback, so that the memory of an activation is free
    again as soon as it is packed and used.
    """
    on_host = _OnHost(weakref.ref(recorder))
    if not isinstance(tensor, jax.core.Tracer):
        if not _in_build_pass():
            _record_now(on_host, tensor, mask)
        return tensor
    _check_one_device()
    arrays = [jax.lax.stop_gradient(tensor)] + ([] if mask is None else [mask])
    if jax.default_backend() != "cpu":
        # The buffers are not the host's; their copies do not wait for what the callback holds up.
        record_copy(recorder, *arrays)
        return tensor
    in_place = buffer_callback(on_host.record_in_place, _NUMBER, has_side_effect=True)
    with _turn() as turn:
        turn.number = in_place(turn.number, *arrays)
        same, _ = jax.lax.optimization_barrier((tensor, turn.number))
    keras_mask = get_keras_mask(tensor)
    if keras_mask is not None:
        set_keras_mask(same, keras_mask)
    return same


def record_copy(recorder: StateRecorder, values: Any, mask: Any = None) -> None:
    """Record a tensor of a traced model that is copied to the host, in packed form if it can be."""
    recorder_ref, threshold = weakref.ref(recorder), recorder.known_threshold
    is_float = jax.dtypes.issubdtype(values.dtype, np.floating)
    if mask is not None or threshold is None or not is_float:
        arrays = (values,) if mask is None else (values, mask)
        io_callback(_OnHost(recorder_ref).record, None, *arrays, ordered=True)
        return
    recorder.check_shape(values.shape)
    axis = recorder.channel_axis_of(values.shape)
    on_host = _PackedOnHost(recorder_ref, values.shape[axis])
    io_callback(on_host.record_packed, None, *pack_on_device(values, threshold, axis), ordered=True)


def _record_now(on_host: _OnHost, values: Any, mask: Any) -> None:
    """Record in a program that is not compiled, after every pass that was started before."""
    jax.effects_barrier()
    on_host.record(values, mask)
    # While Keras holds the variables of a model, this is for `raise_failure` to be told later.
    if get_stateless_scope() is None:
        raise_failure()


def _check_one_device() -> None:
    """Raise NotImplementedError where a batch is spread over devices, which have no order."""
    spread = keras.distribution.distribution()
    if spread is not None and math.prod(spread.device_mesh.shape) > 1:
        raise NotImplementedError(
            f"captures on JAX run on one device, not under a {type(spread).__name__} distribution "
            "over several: call keras.distribution.set_distribution(None) before the model is built"
        )


@dataclass
class _Turn:
    """Whose turn it is to record, in one trace: whoever has the number that was given out last."""

    trace: Any
    number: Any = None


_current_turn: ContextVar[_Turn | None] = ContextVar("tensorstate_turn", default=None)


@contextmanager
def ordered() -> Iterator[None]:
    """Let the captures of a pass follow each other, and the passes too."""
    _check_one_device()
    turn = _Turn(trace())
    token = _current_turn.set(turn)
    try:
        yield
    finally:
        _current_turn.reset(token)
    _end(turn)


@contextmanager
def _turn() -> Iterator[_Turn]:
    """Give a capture its turn: after those of its pass, or one of its own outside of a pass."""
    turn = _current_turn.get()
    of_its_own = turn is None or turn.trace != trace()
    if turn is None or of_its_own:
        turn = _Turn(trace())
    if turn.number is None:
        turn.number = io_callback(_first_number, _NUMBER, ordered=True)
    yield turn
    if of_its_own:
        _end(turn)


def _end(turn: _Turn) -> None:
    """Let the next pass begin when the last capture of this one has recorded."""
    if turn.number is not None:
        io_callback(_last_number, None, turn.number, ordered=True)


def _first_number() -> Any:
    return np.int32(0)


def _last_number(number: Any) -> None:
    """Take the number back."""


def _in_build_pass() -> bool:
    """Whether Keras runs a model on the first batch of `predict` only to make its variables.

    Such a pass knows no values of variables; one that counts is given all of them, or is in no
    stateless scope.
    """
    scope = get_stateless_scope()
    return scope is not None and not scope.state_mapping


# A compiled program that is left by an error takes the model's variables with it, which it was
# given for good, and every later program that waits for it. So failures are kept until the program
# has ended, and nothing is recorded until somebody was told.
_failures: list[Exception] = []


def raise_failure(model: keras.Model | None = None) -> None:
    """Raise what failed in a capture, if anything, after giving a model its variables back."""
    if not _failures:
        return
    if model is not None:
        model.jax_state_sync()
    failure = _failures[0]
    _failures.clear()
    raise failure


def settle() -> None:
    """Return when every pass that this thread started has recorded; raise what failed.

    JAX knows no way to wait for what another thread started, but for the results of it.
    """
    jax.effects_barrier()
    raise_failure()


def _settle_at_exit() -> None:
    jax.effects_barrier()
    for failure in _failures:
        warnings.warn(
            f"recording stopped before the end of the program: {failure}",
            RuntimeWarning,
            stacklevel=1,
        )


# Passes that are under way at the end of the program still record; runs are closed after this.
getattr(threading, "_register_atexit", atexit.register)(_settle_at_exit)


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
