"""What differs between Keras's backends: how a tensor reaches the host, and what a trace is.

There is a module for each backend, with the functions of `Backend`; only the one that Keras runs
on is imported.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

import keras

from tensorstate.capture.recorder import StateRecorder

__all__ = ["Backend", "TensorInfo", "backend"]

_BACKENDS = ("tensorflow", "jax", "torch")


class TensorInfo(NamedTuple):
    """What is known of a tensor before it has values."""

    dtype: str
    shape: tuple[int | None, ...] | None
    is_real: bool


class Backend(Protocol):
    """What a capture asks of the framework below Keras."""

    SUPPORTS_JIT: bool  # whether a model that Keras compiles may hold captures
    KEEPS_FAILURES: bool  # whether what fails in a capture is raised later, by `raise_failure`

    def record(self, recorder: StateRecorder, tensor: Any, mask: Any) -> Any:
        """Record a tensor on the host whenever the program runs; return it to go on with.

        A mask that is not None says at which positions; see `StateRecorder.record_where`.
        """

    def ordered(self) -> AbstractContextManager[None]:
        """Return a context for one pass, in which captures record in the order of the program."""

    def raise_failure(self, model: keras.Model | None = None) -> None:
        """Raise what failed in a capture and was kept; first give a model its variables back."""

    def settle(self) -> None:
        """Return when every pass that was started has recorded what it had to."""

    def trace(self) -> Any:
        """Return what the current trace is known by: equal as long as it is the same."""

    def info(self, tensor: Any) -> TensorInfo | None:
        """Describe a tensor; None if it is something else."""


_loaded: Backend | None = None


def backend() -> Backend:
    """Return the backend that Keras runs on.

    Raises
    ------
    NotImplementedError
        If captures cannot run on it.
    """
    global _loaded
    if _loaded is None:
        _loaded = _load(keras.backend.backend())
    return _loaded


def _load(name: str) -> Backend:
    if name not in _BACKENDS:
        raise NotImplementedError(
            f"captures run on Keras's backends {', '.join(_BACKENDS)}, not on {name!r}: "
            "set KERAS_BACKEND to one of these before Keras is imported"
        )
    return cast(Backend, import_module(f"{__name__}.{name}"))
