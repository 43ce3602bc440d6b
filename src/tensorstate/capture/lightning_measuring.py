"""Measuring the efficiency of a PyTorch module in between the epochs that Lightning trains it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from tensorstate.capture.measured_data import MeasuredData, map_arrays
from tensorstate.capture.options import CaptureOptions
from tensorstate.capture.torch_model import captures_of, find_places
from tensorstate.capture.torch_taps import Taps
from tensorstate.storage import LayerStates

__all__ = ["LightningMeasuring"]

_BATCH_SIZE = 32


class LightningMeasuring:
    """A module in training, and captures that are attached to it only while it is measured.

    Parameters
    ----------
    trainer : lightning.pytorch.Trainer or pytorch_lightning.Trainer
        Which trains the module.
    module : LightningModule
        The network.
    data : MeasuredData
        What to measure on.
    layers : tuple
        `attach_to`, `exclude` and `method`, as for `build_efficiency_model`.
    options : CaptureOptions
        How states are made.
    channel_axis : int or None
        Axis of the neurons; None for each layer's own.

    Raises
    ------
    TypeError
        If the data are a dataset of another framework.
    ValueError
        If no layer matches.
    """

    def __init__(
        self,
        trainer: Any,
        module: nn.Module,
        data: MeasuredData,
        layers: tuple[Any, Any, str],
        options: CaptureOptions,
        channel_axis: int | None,
    ) -> None:
        if data.is_dataset and not isinstance(data.inputs, DataLoader):
            raise TypeError(
                "Lightning measures efficiency on arrays, tensors or a DataLoader, "
                f"not on a {type(data.inputs).__name__}"
            )
        self._precision = trainer.precision_plugin
        self._module = module
        self._data = data
        self._places = find_places(module, *layers, options, channel_axis)
        run = options.open(None, layers=len(self._places))
        self._taps = Taps(run, self._places.values())

    @contextmanager
    def measured(self) -> Iterator[Sequence[LayerStates]]:
        """Run the data through the network; give the captures, and empty them at the end."""
        # Before the hooks are there, which a compiled module would not look for: it runs as it was
        # written instead, and what the training has compiled stays valid.
        plainly = torch.compiler.set_stance("force_eager")
        try:
            with self._left_as_it_is(), self._taps.attached(self._module, self._places), plainly:
                self._predict()
            yield self._taps.captures
        finally:
            for capture in self._taps.captures:
                capture.reset_states()

    def close(self) -> None:
        """End the captures."""
        self._taps.close()

    def _predict(self) -> None:
        module = self._module
        # Not in inference mode, whose tensors, if a module keeps one, cannot be trained with.
        with torch.no_grad(), self._precision.forward_context():
            for inputs in self._batches():
                on_device = module.transfer_batch_to_device(inputs, module.device, 0)
                module(self._precision.convert_input(on_device))

    def _batches(self) -> Iterator[Any]:
        """Give the inputs of one batch after the other."""
        inputs = self._data.inputs
        if self._data.is_dataset:
            for batch in inputs:
                yield batch[0] if isinstance(batch, (list, tuple)) else batch
            return
        sizes: list[int] = []
        map_arrays(lambda array: sizes.append(array.shape[0]), inputs)
        step = self._data.batch_size or _BATCH_SIZE
        for start in range(0, max(sizes), step):
            yield map_arrays(partial(self._some, slice(start, start + step)), inputs)

    def _some(self, instances: slice, array: Any) -> torch.Tensor:
        """Return instances of a tensor as they are, of an array in the module's kind of floats."""
        array = array[instances]
        if isinstance(array, torch.Tensor):
            return array
        tensor = torch.as_tensor(np.asarray(array))
        return tensor.to(self._module.dtype) if tensor.is_floating_point() else tensor

    @contextmanager
    def _left_as_it_is(self) -> Iterator[None]:
        """Put the network into evaluation mode, and undo what predictions change.

        These are random states and buffers. Other captures in it record nothing meanwhile.
        """
        modes = {module: module.training for module in self._module.modules()}
        buffers = [
            (module._buffers, name, buffer, buffer.detach().clone())
            for module in modes
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        generators = {generator: generator.get_state() for generator in self._generators()}
        recording = [capture for capture in captures_of(self._module) if capture.capture_on]
        for capture in recording:
            capture.capture_on = False
        self._module.eval()
        try:
            with _random_states_kept(self._module.device):
                yield
        finally:
            for capture in recording:
                capture.capture_on = True
            for generator, state in generators.items():
                generator.set_state(state)
            with torch.no_grad():
                for own, name, buffer, value in buffers:
                    own[name] = buffer.copy_(value)
            for module, mode in modes.items():
                module.training = mode

    def _generators(self) -> set[torch.Generator]:
        """Return the random generators of a loader, which may be the one that is trained with."""
        loader = self._data.inputs
        drawing = (loader, getattr(loader, "sampler", None))
        return {getattr(one, "generator", None) for one in drawing} - {None}


@contextmanager
def _random_states_kept(device: torch.device) -> Iterator[None]:
    """Put back what random numbers come from: PyTorch, here and on a device, NumPy, and Python."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [device] if device.type in ("cuda", "xpu") else []
    try:
        with torch.random.fork_rng(devices, device_type=device.type):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
