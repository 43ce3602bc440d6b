"""Efficiency models: a Keras model whose layers are probed, and the original left as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from tensorstate.capture.backends import backend
from tensorstate.capture.backends.telling import telling
from tensorstate.capture.keras import StateCapture
from tensorstate.capture.matching import match_layers
from tensorstate.capture.options import CaptureOptions
from tensorstate.capture.probing import Taps
from tensorstate.capture.recorded import RecordedStates
from tensorstate.capture.recorder import StateRecorder
from tensorstate.capture.sites import moments_of
from tensorstate.storage import StoreLike

__all__ = ["EfficiencyModel", "build", "captures_of", "without_captures"]


class EfficiencyModel(keras.Model):  # type: ignore[misc]
    """A model that shares the weights of another one and records the states of its layers.

    Made by `build_efficiency_model`. It predicts, evaluates and trains like the other model, with
    the same layers, optimizer, loss and metrics; it is saved as that model, without captures.
    """

    def __init__(self, inner: keras.Model, taps: Taps) -> None:
        super().__init__(name=f"{inner.name}_efficiency")
        self.inner = inner
        # Built with the original: else Keras would run a pass of its own to build it.
        self.built = inner.built
        self.supports_jit = backend().SUPPORTS_JIT
        # Past Keras's tracking of attributes, which copies lists and dictionaries.
        self.__dict__["_taps"] = taps
        if inner.compiled:
            settings = inner._compile_config.config
            jit_compile = settings["jit_compile"] and self.supports_jit
            self.compile(**{**settings, "jit_compile": jit_compile})

    @property
    def efficiency_layers(self) -> list[StateRecorder]:
        """The captures, in the order in which data meets them."""
        return list(self._taps.recorders)

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Run the original model with its layers probed."""
        # Keras gives `training` to the layers inside by itself, but not on JAX.
        if training is not None and self.inner._call_has_training_arg:
            kwargs["training"] = training
        with self._taps.probing():
            outputs = self.inner(inputs, *args, **kwargs)
        self._taps.count_parameters(self.inner)
        return outputs

    fit = telling(keras.Model.fit)
    evaluate = telling(keras.Model.evaluate)
    predict = telling(keras.Model.predict)
    train_on_batch = telling(keras.Model.train_on_batch)
    test_on_batch = telling(keras.Model.test_on_batch)
    predict_on_batch = telling(keras.Model.predict_on_batch)

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        """Train on a batch, in the way of the original model."""
        return self._as_original("train_step", super().train_step)(*args, **kwargs)

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate a batch, in the way of the original model."""
        return self._as_original("test_step", super().test_step)(*args, **kwargs)

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """Predict a batch, in the way of the original model."""
        return self._as_original("predict_step", super().predict_step)(*args, **kwargs)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss, in the way of the original model."""
        return self._as_original("compute_loss", super().compute_loss)(*args, **kwargs)

    def compute_metrics(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the metrics, in the way of the original model."""
        return self._as_original("compute_metrics", super().compute_metrics)(*args, **kwargs)

    def _as_original(self, name: str, default: Callable[..., Any]) -> Callable[..., Any]:
        """Return the original's own version of a method, probed, or else the default."""
        if not self._is_customised(name):
            return default

        def customised(*args: Any, **kwargs: Any) -> Any:
            with self._taps.probing():
                return getattr(self.inner, name)(*args, **kwargs)

        return customised

    def _is_customised(self, name: str) -> bool:
        return getattr(type(self.inner), name) is not getattr(keras.Model, name)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The metrics that are shown and reset: the original's if it has steps of its own."""
        if any(map(self._is_customised, ("train_step", "test_step", "compute_metrics", "metrics"))):
            return list(self.inner.metrics)
        return list(super().metrics)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers of the original model."""
        return list(self.inner.layers)

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Print the summary of the original model."""
        self.inner.summary(*args, **kwargs)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the original model, without captures."""
        self.inner.save(*args, **kwargs)

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        """Save the weights of the original model."""
        self.inner.save_weights(*args, **kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> None:
        """Load weights into the original model, whose weights these are."""
        self.inner.load_weights(*args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """Export the original model, without captures."""
        self.inner.export(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration of the original model."""
        return dict(self.inner.get_config())


def build(
    model: keras.Model,
    attach_to: Any,
    exclude: Any,
    method: str,
    storage_path: StoreLike | None,
    options: CaptureOptions,
) -> EfficiencyModel:
    """Build the efficiency model of a Keras model; see `build_efficiency_model`."""
    backend()  # which may not be one that captures run on
    if isinstance(model, EfficiencyModel):
        raise ValueError("this model has captures already: remove_state_layers gives the original")
    moments = moments_of(method)
    layers = model._flatten_layers(include_self=False)
    named = [((type(layer).__name__, layer.name), layer) for layer in layers]
    matched = match_layers(named, attach_to, exclude)
    _check_runs_once(layers, matched)
    taps = Taps(matched, moments, options)
    with _strategy_scope(model):
        efficiency_model = EfficiencyModel(model, taps)
    inputs = _known_inputs(model)
    if inputs is not None:
        # Tracing finds the places in order, and what is wrong with one before anything is stored.
        keras.Model.compute_output_spec(efficiency_model, inputs)
    taps.open(storage_path, model)
    return efficiency_model


def captures_of(model: keras.Model) -> list[RecordedStates]:
    """All captures of a model: those it was built with, and those placed by hand."""
    if isinstance(model, EfficiencyModel):
        return [*model.efficiency_layers, *captures_of(model.inner)]
    return [layer for layer in model._flatten_layers() if isinstance(layer, StateCapture)]


def without_captures(model: keras.Model) -> keras.Model:
    """Return the model without captures, with the same weights, after closing the captures."""
    captures = captures_of(model)
    for capture in captures:
        capture.close()
    if isinstance(model, EfficiencyModel):
        return without_captures(model.inner)
    if not captures:
        return model
    if isinstance(model, keras.Sequential):
        kept = [layer for layer in model.layers if not isinstance(layer, StateCapture)]
        return keras.Sequential([*model.inputs, *kept] if model.built else kept, name=model.name)
    if getattr(model, "inputs", None) is None:
        raise ValueError(
            f"model {model.name!r} calls its captures in its own code: take them out there"
        )

    def call_without(layer: keras.layers.Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return inputs if isinstance(layer, StateCapture) else layer(inputs, *args, **kwargs)

    return keras.models.clone_model(
        model, clone_function=lambda layer: layer, call_function=call_without
    )


def _strategy_scope(model: keras.Model) -> AbstractContextManager[Any]:
    """Return the scope of the strategy that distributes a model, so that another one joins it."""
    strategy = getattr(model, "_distribute_strategy", None)
    return nullcontext() if strategy is None else strategy.scope()


def _known_inputs(model: keras.Model) -> Any:
    """Return the symbolic inputs of a functional or built sequential model, else None."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0] if model.built and model.inputs else None
    return model.input if isinstance(model, keras.Function) else None


def _check_runs_once(layers: list[keras.layers.Layer], matched: list[keras.layers.Layer]) -> None:
    """Raise ValueError for a layer that another one runs for every time step."""
    for loop in layers:
        if not isinstance(loop, (keras.layers.RNN, keras.layers.TimeDistributed)):
            continue
        for layer in loop._flatten_layers(include_self=False):
            if any(layer is one for one in matched):
                raise ValueError(
                    f"layer {layer.name!r} runs once for every time step of {loop.name!r}: attach "
                    f"to {loop.name!r} instead, and exclude {layer.name!r}"
                )
