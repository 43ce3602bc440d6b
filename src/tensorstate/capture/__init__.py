"""Captures: probes that record the states of a network's layers and change nothing in it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

from tensorstate.capture.options import CaptureOptions
from tensorstate.capture.recorder import StateRecorder
from tensorstate.capture.thresholds import Threshold
from tensorstate.storage import QUEUE_BYTES, Codec, Histogram, StoreLike

__all__ = [
    "StateRecorder",
    "build_efficiency_model",
    "remove_state_layers",
    "reset_efficiency_model",
]


def build_efficiency_model(
    model: Any,
    attach_to: str | type | Iterable[str | type],
    exclude: str | type | Iterable[str | type] = (),
    method: str = "after",
    storage_path: StoreLike | None = None,
    *,
    mode: str = "x",
    threshold: Threshold = 0.0,
    channel_axis: int | None = None,
    codec: Codec = "lz4",
    queue_bytes: int = QUEUE_BYTES,
    part: str | int | None = None,
    first_instance: int | None = None,
    histogram: Histogram = "stored",
    variable_positions: bool = False,
) -> Any:
    """Return a model that records the states of its layers whenever data passes through it.

    Parameters
    ----------
    model : keras.Model or torch.nn.Module
        A Keras model, functional, sequential or subclassed, nested or not, is not modified: the
        returned model shares its weights, and only that one records. A PyTorch module (one of
        Lightning, compiled, or wrapped by DistributedDataParallel too) gets hooks that record, and
        is returned itself.
    attach_to : name, class, or several of them
        Layers to capture: names of classes (``"Conv2D"``), of layers (``"conv_1"``), or classes.
        Layers inside of nested models count as well. A PyTorch module is named by its path
        (``"features.0"``) or the last part of it.
    exclude : name, class, or several of them, optional
        Layers that are not captured although they match.
    method : {"after", "before", "both"}
        What to capture: a layer's output ("conv_1_states"), its first input
        ("conv_1_pre_states"), or both. A layer that is called several times in a pass has a
        capture for every call ("conv_1_states", "conv_1_states_1").
    storage_path : path, URL or Zarr store, optional
        Where the run is stored; without it, states are kept in memory.
    mode : {"x", "w", "resume"}
        What to do with a run that is there already: refuse it, overwrite it, or go on after its
        committed instances. With `part`, what to do with that part: the run is created or joined,
        and the parts of other processes stay as they are.
    threshold : float, sequence of float, or callable, default 0
        A neuron fires where its activation is strictly greater than the number, or than its own
        one of a sequence (layers with other numbers of neurons are refused). A function is called
        once for each layer, with its first activations (neurons on the last axis), and returns
        one or the other for the whole run: ``lambda x: np.median(x, axis=tuple(range(x.ndim -
        1)))`` splits every neuron at the median of the first batch.
    channel_axis : int, optional
        Axis of the activations that holds the neurons; axis 0 holds the instances. By default -1
        for Keras; for PyTorch 1, but -1 for its linear, embedding, recurrent, attention and
        transformer layers, and normalisations of the last axis. An activation or a module of one's
        own that puts out (instances, sequence, features) needs -1.
    codec : {"lz4", "zstd"}
        How chunks are compressed.
    queue_bytes : int, default 256 MiB
        Most bytes of packed states that wait to be written; when reached, the model waits.
    part : str or int, optional
        The part to write where several processes write one run, each the states of its own
        instances; "rank" takes the number from the environment variable RANK, as ``torchrun`` sets
        it. Without it, this process writes the run alone. On a disk, a second process that would
        write the same run or part is refused; stores such as S3 have no locks for that.
    first_instance : int, optional
        Needed with `part`: the number that the first instance of the part has among those of all
        parts. A reader sees the instances of all parts in one layer, by these numbers.
    histogram : {"stored", "live"}
        "live" counts states while they are captured, and keeps the counts in place of the states:
        for runs that are too large to store. Counts, entropies and efficiencies are the same. What
        needs to know which instance showed a state is refused, and so are the distinct states, and
        what single neurons do, of more than 128 neurons. A run goes on, and all parts of it are
        written, in the same way. See the notes on what is taken in the meantime.
    variable_positions : bool, default False
        Whether instances may differ in their number of positions, as sequences of different
        lengths and images of different sizes do. Without it, all have to have the same shape, and
        padding is recorded like all else. With it, batches may differ in shape, and within a batch
        only what belongs to an instance is recorded: of Keras, the positions where the mask is
        true that a layer hands on with its output (or, "before", gets with its input), as
        ``Embedding(mask_zero=True)`` and ``Masking`` make one; where there is no mask, also behind
        a layer that drops it, all positions. Of PyTorch, packed sequences in the order that the
        instances had before they were packed; of a plain tensor all positions.

    Returns
    -------
    keras.Model or torch.nn.Module
        The efficiency model. ``efficiency_layers`` are its captures, in the order in which data
        meets them. If the inputs of a subclassed Keras model are not known yet, and for PyTorch,
        that order, and captures of repeated calls, show after its first pass.

    Raises
    ------
    TypeError
        If it is not a model that can be captured.
    ValueError
        If no layer matches, a layer cannot be captured, an option is unknown, or a run is to go on
        with another number of parameters.
    FileExistsError
        If the storage path holds a run or part already and the mode does not say what to do with
        it, or if another process writes it.
    OSError
        If the storage path cannot be written.

    Notes
    -----
    How many parameters the model and its captured layers have is stored with the run, as soon as
    all of them are there (`StateRun.parameters`, `LayerStates.parameter_count`), and a run does
    not go on with a model that has more or fewer.

    With ``histogram="live"``, states wait as raw states until 16 chunks of a layer (of at most
    4 MiB each, and less with a small `queue_bytes`) are there, or as much as its histogram takes.
    Then the background thread counts them, as `count_states` does by default: what does not fit
    ``tensorstate.memory-limit`` of Dask's configuration is spilled to files. Only instances that
    all layers have recorded are counted, so that a resumed run counts none of them twice; those
    that some layer lacks wait, also when the run is closed.

    PyTorch: hooks are attached where they record, and nothing else changes: outputs, parameters
    and ``state_dict`` stay as they are. What holds of `tensorstate.StateCaptureHook` holds here,
    too, and furthermore:

    - A pass is a call of the model. Modules that are called from outside of one, as a Lightning
      ``training_step`` may do, have one capture for all of their calls.
    - In a transformer with ``batch_first=False``, all modules have their instances on axis 1, and
      it is moved to axis 0. In other modules, PyTorch's own recurrent and attention layers apart,
      instances are taken to be on axis 0.
    - PyTorch runs encoder layers with hooks in them without its fused kernels, so that their
      outputs may differ in the last bits from those of a plain evaluation, as they do with
      ``torch.backends.mha.set_fastpath_enabled(False)``.
    - ``torch.compile`` with ``fullgraph=True`` refuses what leaves its graph, and so every capture.
    """
    options = CaptureOptions(
        mode,
        threshold,
        -1 if channel_axis is None else channel_axis,
        codec,
        queue_bytes,
        part,
        first_instance,
        histogram,
        variable_positions,
    )
    if _is_keras_model(model):
        from tensorstate.capture import keras_model

        return keras_model.build(model, attach_to, exclude, method, storage_path, options)
    if _is_torch_module(model):
        from tensorstate.capture import torch_model

        return torch_model.build(
            model, attach_to, exclude, method, storage_path, options, channel_axis
        )
    raise _not_a_model(model)


def reset_efficiency_model(model: Any) -> None:
    """Forget all states that a model's captures have recorded; they go on from nothing.

    Parameters
    ----------
    model : keras.Model or torch.nn.Module
        A model from `build_efficiency_model`, or one with captures placed by hand.
    """
    for capture in _framework_of(model).captures_of(model):
        capture.reset_states()


def remove_state_layers(model: Any) -> Any:
    """Close the captures of a model and return it without them.

    Parameters
    ----------
    model : keras.Model or torch.nn.Module
        A Keras model from `build_efficiency_model`, which gives back the original, or a functional
        or sequential one with captures placed by hand, which gives a model with the same weights.
        A PyTorch module is returned itself, without hooks.

    Returns
    -------
    keras.Model or torch.nn.Module
        The model without captures; what was recorded stays readable.
    """
    return _framework_of(model).without_captures(model)


def _framework_of(model: Any) -> ModuleType:
    """Return the module that builds efficiency models of this kind."""
    if _is_keras_model(model):
        return import_module("tensorstate.capture.keras_model")
    if _is_torch_module(model):
        return import_module("tensorstate.capture.torch_model")
    raise _not_a_model(model)


def _not_a_model(model: Any) -> TypeError:
    return TypeError(
        f"a {type(model).__name__} cannot be captured: captures are for Keras 3 models and PyTorch "
        "modules (for arrays there is StateRecorder)"
    )


def _is_keras_model(model: Any) -> bool:
    """Tell a Keras model without importing Keras; on its torch backend it is a module as well."""
    return _has_base(model, "keras", "Model")


def _is_torch_module(model: Any) -> bool:
    """Tell a PyTorch module without importing PyTorch."""
    return _has_base(model, "torch", "Module")


def _has_base(model: Any, package: str, name: str) -> bool:
    return any(
        base.__name__ == name and base.__module__.split(".")[0] == package
        for base in type(model).__mro__
    )
