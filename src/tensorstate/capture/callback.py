"""The Keras callback that measures efficiency while a network trains."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import keras

from tensorstate.capture import build_efficiency_model
from tensorstate.capture.epochs import EpochLog
from tensorstate.capture.keras_model import EfficiencyModel, captures_of
from tensorstate.capture.thresholds import Threshold

__all__ = ["EfficiencyCallback"]


class EfficiencyCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Measures efficiency on given data every n epochs and adds it to the epoch's logs.

    The logs get ``efficiency/<layer>`` for every captured layer, ``network_efficiency`` and, if
    they hold an accuracy, ``aIQ``. Callbacks that come after this one in the list of callbacks see
    them, and so do the progress bar and the history. Keras does not know that more is better:
    ``EarlyStopping(monitor="network_efficiency", mode="max")``.

    Measured is the network as it predicts. Training goes on as without the callback: the same
    weights, bit for bit, and nothing is recorded of the training itself. States are kept in memory
    and dropped after every measurement; they take one bit for each activation of `data`.

    Parameters
    ----------
    data : array, nested arrays, tf.data.Dataset, keras.utils.PyDataset or DataLoader
        Inputs to measure on, as `keras.Model.predict` takes them, or a tuple (inputs, targets) of
        which the targets are ignored. It is used again in every measurement.
    attach_to, exclude, method
        Which layers are captured, and where, as for `build_efficiency_model`.
    every : int, default 1
        Epochs from one measurement to the next; the first epoch of a training is always measured.
        In between, the values are NaN: a callback that looks for the best one, such as
        `EarlyStopping`, takes that for no improvement, so its patience should be longer than this.
    batch_size : int, optional
        Instances in a batch, if the data are arrays; Keras's default is 32.
    accuracy : str or None, default "auto"
        Name of the accuracy in the logs that aIQ takes. "auto" decides in the first epoch: the
        accuracy of the validation data if there is one, else that of the training, else none.
        None leaves aIQ out. In an epoch that lacks the accuracy, aIQ is NaN.
    weight : float, default 2
        How much more accuracy counts than efficiency in aIQ; see `aIQ`.
    threshold : float, sequence of float, or callable, default 0
        A neuron fires where its activation is strictly greater; see `build_efficiency_model`. What
        a function finds in the first batch of a training's first measurement stays for the others.
    channel_axis : int, default -1
        Axis of the activations that holds the neurons; axis 0 holds the instances.
    variable_positions : bool, default False
        Whether instances may differ in their number of positions; see `build_efficiency_model`.

    Raises
    ------
    TypeError
        If the data can only be used once, or an option is of the wrong type.
    ValueError
        If the data are empty or never end, or an option makes no sense. From ``fit``: if no layer
        matches or a layer cannot be captured (when it begins), or the accuracy is not in the logs
        of the first epoch, or not within 0 to 1.

    Examples
    --------
    >>> import keras, numpy as np
    >>> import tensorstate as ts
    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(8, name="dense")])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.random.default_rng(0).normal(size=(64, 4)), np.zeros((64, 8))
    >>> history = model.fit(x, y, verbose=0, callbacks=[ts.EfficiencyCallback(x, "Dense")])
    >>> sorted(history.history)
    ['efficiency/dense', 'loss', 'network_efficiency']
    """

    def __init__(
        self,
        data: Any,
        attach_to: str | type | Iterable[str | type],
        exclude: str | type | Iterable[str | type] = (),
        method: str = "after",
        *,
        every: int = 1,
        batch_size: int | None = None,
        accuracy: str | None = "auto",
        weight: float = 2.0,
        threshold: Threshold = 0.0,
        channel_axis: int = -1,
        variable_positions: bool = False,
    ) -> None:
        super().__init__()
        self._inputs = _checked_inputs(data, batch_size)
        self._batch_size = batch_size
        self._log = EpochLog(every, accuracy, weight)
        self._layers = (attach_to, exclude, method)
        self._options: dict[str, Any] = {
            "threshold": threshold,
            "channel_axis": channel_axis,
            "variable_positions": variable_positions,
        }
        self._measuring: EfficiencyModel | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin to count epochs, and find the layers."""
        self._log.begin()
        self._drop()
        # A model that makes its layers when data first comes has them after the first epoch.
        if self.model.built:
            self._build()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, if it is time to, and add the values to the logs."""
        logs = {} if logs is None else logs
        if not self._log.count_epoch():
            logs.update(self._log.not_measured())
            return
        measuring = self._measuring or self._build()
        try:
            with _left_as_it_is(self.model):
                measuring.predict(self._inputs, batch_size=self._batch_size, verbose=0)
            logs.update(self._log.measured(measuring.efficiency_layers, logs))
        finally:
            for capture in measuring.efficiency_layers:
                capture.reset_states()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Take the captures away."""
        self._drop()

    def _build(self) -> EfficiencyModel:
        self._measuring = build_efficiency_model(self.model, *self._layers, **self._options)
        return self._measuring

    def _drop(self) -> None:
        if self._measuring is not None:
            # Captures share one run; those placed by hand in the model are not this one's to close.
            self._measuring.efficiency_layers[0].close()
            self._measuring = None


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


def _checked_inputs(data: Any, batch_size: int | None) -> Any:
    """Return what to predict, after raising for what cannot be predicted again and again."""
    if isinstance(data, Iterator):
        raise TypeError(
            f"a {type(data).__name__} is used up by the first measurement: give arrays, or a "
            "dataset that begins anew every time"
        )
    if isinstance(data, tuple):
        if not 1 <= len(data) <= 3:
            raise ValueError(
                f"a tuple is (inputs, targets), not of {len(data)}: give several inputs as a list"
            )
        data = data[0]
    if batch_size is not None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool):
            raise TypeError(f"batch_size is a number of instances, not {batch_size!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}")
    if _is_dataset(data):
        if batch_size is not None:
            raise ValueError("batch_size is for arrays: a dataset comes in batches of its own")
        batches = _batch_count(data)
        if batches == math.inf:
            raise ValueError("the dataset has no end: limit it, for example with take()")
        if batches == 0:
            raise ValueError("the dataset holds no instance: there is nothing to measure on")
        return data
    for array in keras.tree.flatten(data) or [None]:
        if not getattr(array, "shape", None):
            raise TypeError(
                "efficiency is measured on arrays or a dataset, "
                f"not on {type(data if array is None else array).__name__}"
            )
        if array.shape[0] == 0:
            raise ValueError("the data hold no instance: there is nothing to measure on")
    return data


def _is_dataset(data: Any) -> bool:
    """Tell a dataset of TensorFlow, Keras or PyTorch without importing their packages."""
    if isinstance(data, keras.utils.PyDataset):
        return True
    names = {base.__name__ for base in type(data).__mro__}
    return bool(names & {"DatasetV2", "DistributedDatasetInterface", "DataLoader"})


def _batch_count(dataset: Any) -> float:
    """Return the number of batches: infinity if there is no end, NaN if nobody knows."""
    if isinstance(dataset, keras.utils.PyDataset):
        return math.inf if dataset.num_batches is None else int(dataset.num_batches)
    if hasattr(dataset, "cardinality"):
        count = int(dataset.cardinality())
        return {-1: math.inf, -2: math.nan}.get(count, count)
    return len(dataset) if hasattr(dataset, "__len__") else math.nan
