"""The models of a capture: files of several kinds, and functions that return one."""

from __future__ import annotations

import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

from tensorstate.cli.loading import check_no_pipe, first_line, is_object_name, load_object
from tensorstate.cli.networks import KerasNetwork, Network, TorchNetwork, network_of

__all__ = ["open_model"]

# What TensorFlow says of the processor while it is imported is no concern of who captures.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# By default it takes all the memory of a GPU.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def open_model(name: str) -> Network:
    """Load a model.

    Parameters
    ----------
    name : str
        A ``.keras`` file; the folder of a SavedModel; a TorchScript file or one of
        ``torch.export`` (.pt, .pt2); or ``module:name`` of a model, or of a class or function that
        returns one.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If it is none of these, or cannot be read.
    ImportError
        If the framework is not installed.
    """
    path = Path(name)
    check_no_pipe(path)
    if is_object_name(name) and not path.exists():
        return _from_object(name)
    if not path.exists():
        raise FileNotFoundError(f"there is no model at {name}: nothing is there")
    if path.is_dir() and (path / "saved_model.pb").exists():
        return _loaded(name, "SavedModel", _saved_model)
    if path.suffix in (".keras", ".h5"):
        return _loaded(name, "Keras model", _keras_file)
    inside = _names_in(path)
    if any(entry.endswith("archive_format") for entry in inside):
        return _loaded(name, "program of torch.export", _exported)
    if any("/code/" in entry for entry in inside):
        return _loaded(name, "TorchScript", _torchscript)
    raise ValueError(
        f"{name} is no model that can be read: give a .keras file, the folder of a SavedModel, a "
        "file of TorchScript or torch.export, or module:function that returns a model (weights or "
        "a pickled module alone do not say how to run it)"
    )


def _loaded(name: str, kind: str, load: Any) -> Network:
    try:
        network: Network = load(name)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{name} cannot be read as a {kind}: {first_line(error)}") from error
    return network


def _from_object(name: str) -> Network:
    found = load_object(name)
    is_model = hasattr(found, "named_modules") or hasattr(found, "layers")
    if isinstance(found, type) or (callable(found) and not is_model):
        try:
            found = found()
        except Exception as error:
            raise ValueError(f"{name} failed: {first_line(error)}") from error
    return network_of(found, name)


def _keras_file(name: str) -> Network:
    import keras

    return KerasNetwork(keras.saving.load_model(name, compile=False))


def _saved_model(name: str) -> Network:
    """Return a model that runs a SavedModel as one layer, and has a layer for each output."""
    import keras
    import tensorflow as tf

    signature = tf.saved_model.load(name).signatures["serving_default"]
    inputs = list(signature.structured_input_signature[1].values())
    if len(inputs) != 1:
        raise ValueError("it takes several inputs: capture the model that it was made from")
    whole = keras.layers.TFSMLayer(name, call_endpoint="serving_default")
    start = keras.Input(inputs[0].shape[1:], dtype=inputs[0].dtype.name)
    ends = {
        output: keras.layers.Identity(name=output)(tensor)
        for output, tensor in whole(start).items()
    }
    return KerasNetwork(keras.Model(start, ends, name=Path(name).name), outputs=tuple(ends))


def _torchscript(name: str) -> Network:
    """Return a module that runs TorchScript, which takes no hooks, and has one for its output."""
    import torch

    scripted = torch.jit.load(name, map_location="cpu").eval()

    class Scripted(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.output = torch.nn.Identity()

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.output(scripted(*args, **kwargs))

    return TorchNetwork(Scripted().eval(), outputs=("output",), needs_channel_axis=True)


def _exported(name: str) -> Network:
    """Return the modules that an exported program was made from, as far as it kept them."""
    import torch

    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # PyTorch's of itself
        program = torch.export.load(name)
        unflattened = torch.export.unflatten(program)
    if any(_is_training(node) for node in program.graph.nodes):
        raise ValueError("it was exported in training mode: call eval() of the module before")
    for module in unflattened.modules():
        # By the names of their classes, modules are chosen.
        original = module.type_name().rpartition(".")[2] if hasattr(module, "type_name") else None
        if original:
            module.__class__ = type(original, (type(module),), {})
    shapes = [
        tuple(node.meta["val"].shape)
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    batch, *rest = shapes[0] if len(shapes) == 1 else (None,)
    return TorchNetwork(
        unflattened,
        tuple(length if isinstance(length, int) else None for length in rest) if rest else None,
        batch_size=batch if isinstance(batch, int) else None,
        needs_channel_axis=True,
    )


def _is_training(node: Any) -> bool:
    """Whether a node of an exported graph does what only training does."""
    flag = {"aten.dropout.default": 2, "aten.batch_norm.default": 5}.get(str(node.target))
    return flag is not None and bool(node.args[flag])


def _names_in(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as file:
            return file.namelist()
    except (OSError, zipfile.BadZipFile):
        return []
