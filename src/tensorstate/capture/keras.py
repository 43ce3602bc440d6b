"""The capture layer for Keras, and how a tensor of a Keras model reaches a recorder."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from tensorstate.capture.backends import backend
from tensorstate.capture.recorded import RecordedStates
from tensorstate.capture.recorder import StateRecorder
from tensorstate.capture.thresholds import Threshold
from tensorstate.storage import QUEUE_BYTES, Codec, Histogram, StoreLike

__all__ = ["StateCapture", "emit"]


@keras.saving.register_keras_serializable(package="tensorstate")
class StateCapture(keras.layers.Layer, RecordedStates):  # type: ignore[misc]
    """A layer that records which activations fire and returns its input unchanged.

    Parameters
    ----------
    name : str
        Name of the capture, unique in its run.
    disk_path : path, URL or Zarr store, optional
        Run to record into; captures with the same path share a run. Without it, states are kept in
        memory. The path is not saved with the model.
    threshold : float, sequence of float, or callable, default 0
        A neuron fires where its activation is strictly greater; see `StateRecorder`.
    channel_axis : int, default -1
        Axis of the activations that holds the neurons; axis 0 holds the instances.
    mode, codec, queue_bytes, part, first_instance, histogram, variable_positions
        As for `build_efficiency_model`.

    Raises
    ------
    FileExistsError
        If the path holds a run already, and the mode does not say what to do with it.
    OSError
        If the path cannot be written.
    """

    def __init__(
        self,
        name: str,
        disk_path: StoreLike | None = None,
        threshold: Threshold = 0.0,
        channel_axis: int = -1,
        *,
        mode: str = "x",
        codec: Codec = "lz4",
        queue_bytes: int = QUEUE_BYTES,
        part: str | int | None = None,
        first_instance: int | None = None,
        histogram: Histogram = "stored",
        variable_positions: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("trainable", False)
        super().__init__(name=name, **kwargs)
        framework = backend()
        self._states = StateRecorder(
            name,
            disk_path,
            threshold,
            channel_axis,
            mode=mode,
            codec=codec,
            queue_bytes=queue_bytes,
            part=part,
            first_instance=first_instance,
            histogram=histogram,
            variable_positions=variable_positions,
        )
        self._threshold = threshold
        self._saved = {
            "channel_axis": channel_axis,
            "codec": codec,
            "histogram": histogram,
            "variable_positions": variable_positions,
        }
        self._states.settle = framework.settle
        self.supports_masking = True
        self.supports_jit = framework.SUPPORTS_JIT
        self.built = True

    @property
    def capture_on(self) -> bool:
        """Whether batches are recorded; takes effect at once, also in a compiled model."""
        return self._states.capture_on

    @capture_on.setter
    def capture_on(self, value: bool) -> None:
        self._states.capture_on = value

    def _recorder(self) -> StateRecorder:
        return self._states

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Record the inputs, those that the mask leaves if positions may vary, and return them."""
        return emit(self._states, inputs, mask if self._states.variable_positions else None)

    def compute_output_spec(self, inputs: Any, mask: Any = None) -> Any:
        """Return the spec of the inputs; nothing is recorded while a model is built.

        Raises
        ------
        ValueError
            If inputs of this shape have no axis of neurons, or more or fewer than thresholds.
        """
        self._states.check_shape(inputs.shape)
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is made from, without where it stores.

        Raises
        ------
        ValueError
            If the threshold is a function that has not met a batch yet.
        """
        return {**super().get_config(), **self._saved, "threshold": self._saved_threshold()}

    def _saved_threshold(self) -> Any:
        if not callable(self._threshold):
            return np.asarray(self._threshold).tolist()
        if self._layer_info() is None:
            raise ValueError(
                f"capture {self.name!r} has a function as its threshold, which is saved as what it "
                "makes of the first batch: run data through the model first, or give it numbers"
            )
        return np.asarray(self.threshold).tolist()


def emit(recorder: StateRecorder, tensor: Any, mask: Any = None) -> Any:
    """Record a tensor whenever the model runs, and return it, or its equal, to go on with.

    With a mask, only the positions are recorded where it is true.
    """
    # In a symbolic pass there are no data, only stand-ins for them.
    return tensor if in_symbolic_scope() else backend().record(recorder, tensor, mask)
