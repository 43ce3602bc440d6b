"""Telling what failed in a capture, where a compiled model cannot be left in the middle."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any

import keras

from tensorstate.capture.backends import backend

__all__ = ["telling"]


def telling(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method of a model that runs data through it raise what failed in its captures.

    Parameters
    ----------
    method : function
        A method of `keras.Model`, such as ``keras.Model.predict``.

    Returns
    -------
    function
        The same, which on a backend that keeps failures stops after the batch with the failure.
    """
    parameters = signature(method)

    @wraps(method)
    def told(*args: Any, **kwargs: Any) -> Any:
        if not backend().KEEPS_FAILURES:
            return method(*args, **kwargs)
        bound = parameters.bind(*args, **kwargs)
        if "callbacks" in parameters.parameters:
            bound.arguments["callbacks"] = _with_telling(bound.arguments.get("callbacks"))
        result = method(*bound.args, **bound.kwargs)
        backend().settle()
        return result

    return told


class _Telling(keras.callbacks.Callback):  # type: ignore[misc]
    """Stops a model after the batch in which a capture failed."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._tell()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._tell()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self._tell()

    def _tell(self) -> None:
        backend().raise_failure(self.model)


def _with_telling(callbacks: Any) -> Any:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks  # which is complete: failures are told when the method ends
    if isinstance(callbacks, (list, tuple)):
        return [*callbacks, _Telling()]
    return [_Telling()] if callbacks is None else [callbacks, _Telling()]
