"""The callback of Keras and of Lightning that measures efficiency while a network trains."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tensorstate.capture import build_efficiency_model
from tensorstate.capture.epochs import EpochLog, Measuring
from tensorstate.capture.measured_data import MeasuredData
from tensorstate.capture.options import CaptureOptions
from tensorstate.capture.thresholds import Threshold

__all__ = ["EfficiencyCallback"]


class EfficiencyCallback:
    """Measures efficiency on given data every n epochs and adds it to the epoch's logs.

    It is a callback of both Keras and Lightning (``lightning`` and ``pytorch_lightning``), to be
    given in a list of callbacks. The logs get ``efficiency/<layer>`` for every captured layer,
    ``network_efficiency`` and, if they hold an accuracy, ``aIQ``; so loggers, the progress bar or
    history of Keras, and `EarlyStopping` see them. In Keras it has to come before the callbacks
    that are to see them. Neither knows that more is better:
    ``EarlyStopping(monitor="network_efficiency", mode="max")``.

    Measured is the network as it predicts. Training goes on as without the callback: the same
    weights, bit for bit, and nothing is recorded of the training itself. States are kept in memory
    and dropped after every measurement; they take one bit for each activation of `data`.

    Parameters
    ----------
    data : array, nested arrays, tf.data.Dataset, keras.utils.PyDataset or DataLoader
        Inputs to measure on, as `keras.Model.predict` takes them, or a tuple (inputs, targets) of
        which the targets are ignored. It is used again in every measurement. Lightning takes
        arrays, tensors and a DataLoader; the module's ``forward`` is called with a batch of inputs,
        which is the first entry of what a loader gives if that is a tuple or list.
    attach_to, exclude, method
        Which layers are captured, and where, as for `build_efficiency_model`.
    every : int, default 1
        Epochs from one measurement to the next; the first epoch of a training, also of a resumed
        one, is always measured. In between, the values are NaN in Keras, and left out in Lightning:
        a callback that looks for the best one, such as `EarlyStopping`, takes that for no
        improvement, so its patience should be longer than this.
    batch_size : int, optional
        Instances in a batch, if the data are arrays; 32 by default.
    accuracy : str or None, default "auto"
        Name of the accuracy in the logs that aIQ takes. "auto" decides in the first epoch: the
        accuracy of the validation data if there is one ("val_accuracy", "val_acc"), else that of
        the training, else none. None leaves aIQ out. In an epoch that lacks the accuracy, aIQ is
        NaN, or left out.
    weight : float, default 2
        How much more accuracy counts than efficiency in aIQ; see `aIQ`.
    threshold : float, sequence of float, or callable, default 0
        A neuron fires where its activation is strictly greater; see `build_efficiency_model`. What
        a function finds in the first batch of a training's first measurement stays for the others.
    channel_axis : int, optional
        Axis of the activations that holds the neurons; see `build_efficiency_model`.
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

    Notes
    -----
    Lightning: the values are logged at the end of the training epoch, with the precision of
    PyTorch's default dtype. Where validation does not run once in every epoch, Lightning's
    `EarlyStopping` looks at its end, before that, unless it is given
    ``check_on_train_epoch_end=True``. An accuracy that a module logs in its own
    ``on_train_epoch_end`` comes too late for aIQ. A compiled module is measured without the
    compiler. In a training on several devices each measures all of the data, and the values
    are averaged.

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

    In Lightning: ``Trainer(callbacks=[ts.EfficiencyCallback(x, "Linear")])``.
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
        channel_axis: int | None = None,
        variable_positions: bool = False,
    ) -> None:
        self._data = MeasuredData.checked(data, batch_size)
        self._log = EpochLog(every, accuracy, weight)
        self._layers = (attach_to, exclude, method)
        self._threshold = threshold
        self._channel_axis = channel_axis
        self._variable_positions = variable_positions
        self._measuring: Measuring | None = None

    def __getattr__(self, name: str) -> Any:
        # Keras and Lightning call every hook that they know of, whether or not it does something.
        if name.startswith("on_") or name == "teardown":
            return _do_nothing
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def on_train_end(self, *_: Any) -> None:
        """Take the captures away; both call this."""
        self._close()

    def _close(self) -> None:
        if self._measuring is not None:
            self._measuring.close()
            self._measuring = None

    # What Keras calls.

    async_safe = True  # hooks that do nothing need not keep the training waiting

    def set_params(self, params: Any) -> None:
        """Take no notice of how often Keras is going to call."""

    def set_model(self, model: Any) -> None:
        """Take the model that is going to be trained."""
        self._model = model

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin to count epochs, and find the layers."""
        from tensorstate.capture.keras_measuring import KerasMeasuring

        self._log.begin()
        self._close()
        self._measuring = KerasMeasuring(self._model, self._data, self._build)

    def _build(self, model: Any) -> Any:
        return build_efficiency_model(
            model,
            *self._layers,
            threshold=self._threshold,
            channel_axis=self._channel_axis,
            variable_positions=self._variable_positions,
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, if it is time to, and add the values to the logs."""
        logs = {} if logs is None else logs
        if not self._log.count_epoch():
            logs.update(self._log.not_measured())
            return
        assert self._measuring is not None
        with self._measuring.measured() as captures:
            logs.update(self._log.measured(captures, logs))

    # What Lightning calls.

    @property
    def state_key(self) -> str:
        """What the state goes by in a checkpoint; its own for callbacks with other layers."""
        return f"EfficiencyCallback{self._layers!r}"

    _legacy_state_key = state_key  # Lightning looks for it as well

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training goes on with."""
        return self._log.state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what a checkpoint holds."""
        self._log.restore(state)

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        """Begin to count epochs; a checkpoint is loaded after this."""
        if stage == "fit":
            self._log.begin()

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Find the layers."""
        from tensorstate.capture.lightning_measuring import LightningMeasuring

        self._close()
        self._before: dict[str, Any] = {}  # a training that goes on within an epoch begins none
        options = CaptureOptions(
            threshold=self._threshold, variable_positions=self._variable_positions
        )
        self._measuring = LightningMeasuring(
            trainer, module, self._data, self._layers, options, self._channel_axis
        )

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Note what was logged before: Lightning keeps the last value of everything."""
        self._before = dict(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Measure, if it is time to, and log the values."""
        if not self._log.count_epoch():
            return
        logged = trainer.callback_metrics.items()
        of_epoch = {name: value for name, value in logged if value is not self._before.get(name)}
        assert self._measuring is not None
        with self._measuring.measured() as captures:
            values = self._log.measured(captures, of_epoch)
        for name, value in values.items():
            # EarlyStopping ends a training at a NaN; what is missing is left out instead.
            if not math.isnan(value):
                module.log(name, value, batch_size=1, sync_dist=True)

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Take the captures away from a training that failed or was interrupted."""
        self._close()


def _do_nothing(*_: Any, **__: Any) -> None:
    """Take no notice of a hook."""
