"""Measuring the efficiency of a Keras model in between the epochs of its training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import keras

from tensorstate.capture.keras_model import EfficiencyModel, captures_of
from tensorstate.capture.measured_data import MeasuredData
from tensorstate.storage import LayerStates

__all__ = ["KerasMeasuring"]


class KerasMeasuring:
    """A network in training, and the efficiency model that shares its weights.

    Parameters
    ----------
    model : keras.Model
        The network.
    data : MeasuredData
        What to measure on.
    build : callable
        Builds the efficiency model of the network.
    """

    def __init__(
        self,
        model: keras.Model,
        data: MeasuredData,
        build: Callable[[keras.Model], EfficiencyModel],
    ) -> None:
        # A callback of Keras knows how to look at a model in the middle of a training.
        self._training = keras.callbacks.Callback()
        self._training.set_model(model)
        self._data = data
        self._build = build
        # A model that makes its layers when data first comes has them after the first epoch.
        self._measuring = build(self._training.model) if self._training.model.built else None

    @contextmanager
    def measured(self) -> Iterator[Sequence[LayerStates]]:
        """Run the data through the network; give the captures, and empty them at the end."""
        model = self._training.model
        if self._measuring is None:
            self._measuring = self._build(model)
        try:
            with _left_as_it_is(model):
                self._measuring.predict(
                    self._data.inputs, batch_size=self._data.batch_size, verbose=0
                )
            yield self._measuring.efficiency_layers
        finally:
            for capture in self._measuring.efficiency_layers:
                capture.reset_states()

    def close(self) -> None:
        """Take the captures away."""
        if self._measuring is not None:
            # Captures share one run; those placed by hand in the model are not this one's to close.
            self._measuring.efficiency_layers[0].close()


@contextmanager
def _left_as_it_is(model: keras.Model) -> Iterator[None]:
    """Undo what predictions change: random states, and variables of a model's layers.

    Captures placed by hand in it record nothing meanwhile.
    """
    variables = []
    for layer in model._flatten_layers():
        # Not the weights that were frozen: these may be many, and no pass changes them.
        variables += layer._non_trainable_variables
        variables += [generator.state for generator in layer._seed_generators]
    values = [keras.ops.convert_to_numpy(variable.value).copy() for variable in variables]
    recording = [capture for capture in captures_of(model) if capture.capture_on]
    for capture in recording:
        capture.capture_on = False
    torch = sys.modules.get("torch")
    try:
        # A DataLoader takes a number from PyTorch's generator, which the next shuffle would miss.
        with torch.random.fork_rng(devices=()) if torch else nullcontext():
            yield
    finally:
        for capture in recording:
            capture.capture_on = True
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
