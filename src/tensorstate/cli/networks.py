"""What a capture needs of a network: what it takes, and one pass in inference mode."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["KerasNetwork", "Network", "TorchNetwork", "network_of"]


@dataclass
class Network(ABC):
    """A model of some framework.

    Attributes
    ----------
    model
        The Keras model or PyTorch module.
    input_shape : tuple of int or None, or None
        Shape of one instance, None for lengths that may be any; None if the model does not tell.
    batch_size : int or None
        The only number of instances that it takes at once; None if it takes any.
    outputs : tuple of str
        What alone can be captured of a model that is closed to probes; empty for others.
    needs_channel_axis : bool
        Whether the captures cannot tell by themselves which axis holds the neurons.
    """

    model: Any
    input_shape: tuple[int | None, ...] | None = None
    batch_size: int | None = None
    outputs: tuple[str, ...] = ()
    needs_channel_axis: bool = False

    @abstractmethod
    def run(self, model: Any, batch: Any) -> None:
        """Pass a batch through the model, or through the efficiency model made of it."""

    def check(self, batch: Any) -> None:
        """Pass a batch through the model; raise what the framework raises if it does not fit."""
        self.run(self.model, batch)


@dataclass
class KerasNetwork(Network):
    """A Keras model on any backend."""

    def __post_init__(self) -> None:
        shape = getattr(self.model, "input_shape", None) if self.model.built else None
        # Of several inputs, it is a list or a dictionary of shapes.
        if isinstance(shape, tuple) and all(isinstance(n, int | None) for n in shape):
            self.batch_size, *rest = shape
            self.input_shape = tuple(rest)

    def check(self, batch: Any) -> None:
        """Call the model eagerly: to compile it for one pass takes longer."""
        self.model(batch, training=False)

    def run(self, model: Any, batch: Any) -> None:
        """Predict a batch, and drop what comes of it."""
        model.predict_on_batch(batch)


@dataclass
class TorchNetwork(Network):
    """A PyTorch module in evaluation mode."""

    def run(self, model: Any, batch: Any) -> None:
        """Call the module without gradients, and drop what comes of it."""
        import torch

        with torch.inference_mode():
            if isinstance(batch, dict):
                model(**{name: self._tensor(one) for name, one in batch.items()})
            elif isinstance(batch, (tuple, list)):
                model(*(self._tensor(one) for one in batch))
            else:
                model(self._tensor(batch))

    def _tensor(self, array: Any) -> Any:
        """Return a tensor where the weights are; real numbers get their precision."""
        import torch

        weight = next(iter(self.model.parameters()), None)
        if not isinstance(array, torch.Tensor):
            # A copy, since the memory may be a file that is mapped to be read only.
            array = torch.from_numpy(np.array(array))
        if weight is None:
            return array
        if array.is_floating_point() and weight.is_floating_point():
            array = array.to(weight.dtype)
        return array.to(weight.device)


def network_of(model: Any, name: str) -> Network:
    """Return a model of whichever framework as a network.

    Raises
    ------
    ValueError
        If it is neither a Keras model nor a PyTorch module.
    """
    # Whoever made a model has imported its framework. On Keras's torch backend it is both.
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    if keras is not None and isinstance(model, keras.Model):
        return KerasNetwork(model)
    if torch is not None and isinstance(model, torch.nn.Module):
        return TorchNetwork(model.eval())
    raise ValueError(
        f"{name} gives a {type(model).__name__}, which is neither a Keras model nor a PyTorch "
        "module"
    )
