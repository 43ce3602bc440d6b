"""Efficiency models: a PyTorch module whose modules are probed by hooks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.utils.parametrize import type_before_parametrizations

from tensorstate.capture.matching import match_layers
from tensorstate.capture.options import CaptureOptions
from tensorstate.capture.recorded import RecordedStates
from tensorstate.capture.sites import moments_of
from tensorstate.capture.torch import NoHook, StateCaptureHook, has_instances_on_axis_1
from tensorstate.capture.torch_parameters import parameters_of
from tensorstate.capture.torch_taps import Place, Places, Taps
from tensorstate.storage import StoreLike, check_layer_name

__all__ = ["build", "captures_of", "find_places", "without_captures"]


_FEATURES_LAST = (
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)


_taps_of: WeakKeyDictionary[nn.Module, Taps] = WeakKeyDictionary()


def build(
    model: nn.Module,
    attach_to: Any,
    exclude: Any,
    method: str,
    storage_path: StoreLike | None,
    options: CaptureOptions,
    channel_axis: int | None,
) -> nn.Module:
    """Attach captures to modules of a PyTorch model; see `build_efficiency_model`."""
    root = _unwrapped(model)
    if root in _taps_of:
        raise ValueError("this model has captures already: remove_state_layers takes them off")
    places = find_places(root, attach_to, exclude, method, options, channel_axis)
    name, parameters = type(root).__name__, parameters_of(root)
    writer = options.open(storage_path, len(places), name, parameters)
    taps = Taps(writer, places.values())
    taps.attach(root, places)
    # What is compiled does not look for hooks again.
    torch.compiler.reset()
    _taps_of[root] = taps
    taps.models.update((root, model))
    for one in taps.models:
        # Past the tracking of modules, which a wrapper hands on to what it wraps.
        one.__dict__["efficiency_layers"] = taps.captures
    return model


def find_places(
    root: nn.Module,
    attach_to: Any,
    exclude: Any,
    method: str,
    options: CaptureOptions,
    channel_axis: int | None,
) -> Places:
    """Find what is to be captured of a model; see `build_efficiency_model`."""
    moments = moments_of(method)
    if isinstance(root, torch.jit.ScriptModule):
        raise TypeError(
            "a scripted module runs outside of Python, where no hook reaches it: "
            "capture the module that it was made from"
        )
    matched = match_layers(_named(root), attach_to, exclude)
    sequence_first = _with_instances_on_axis_1(root)
    places = {
        (module, moment): Place(
            path,
            _class_name(module),
            moment,
            replace(options, channel_axis=_channel_axis(module, channel_axis)),
            module in sequence_first,
            ref(module),
        )
        for path, module in matched
        for moment in moments
    }
    for place in places.values():
        check_layer_name(place.name)
    return places


def captures_of(model: nn.Module) -> list[RecordedStates]:
    """All captures of a model: those it was built with, and those placed by hand."""
    root = _unwrapped(model)
    built: list[RecordedStates] = list(_taps_of[root].captures) if root in _taps_of else []
    hooks = [hook for _, _, hook in _hooks_of(root) if isinstance(hook, StateCaptureHook)]
    return [*built, *dict.fromkeys(hooks)]


def without_captures(model: nn.Module) -> nn.Module:
    """Take the captures off a model, close them, and return it."""
    root = _unwrapped(model)
    by_hand = [hook for _, _, hook in _hooks_of(root) if isinstance(hook, StateCaptureHook)]
    for module, key, hook in list(_hooks_of(root)):
        if isinstance(hook, (StateCaptureHook, NoHook)):
            _discard(module, key)
    root.__dict__.pop("efficiency_layers", None)
    taps = _taps_of.pop(root, None)
    if taps is not None:
        taps.remove()
    torch.compiler.reset()
    # Last, since it raises what happened in the background.
    for capture in by_hand:
        capture.close()
    if taps is not None:
        taps.close()
    return model


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside of wrappers that call it: compiled, or parallel on data."""
    while True:
        if isinstance(model, OptimizedModule):
            model = model._orig_mod
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


def _named(root: nn.Module) -> list[tuple[set[str], tuple[str, nn.Module]]]:
    """Modules inside of a model (or the model itself if it holds none), with all their names."""
    paths: dict[nn.Module, list[str]] = {}
    for path, module in root.named_modules(remove_duplicate=False):
        # What is compiled goes by the name that it had before.
        parts = [part for part in path.split(".") if part != "_orig_mod"]
        paths.setdefault(module, []).append(".".join(parts))
    inside = {module: names for module, names in paths.items() if module is not root}
    if not inside:
        inside = {root: [_class_name(root)]}
    return [
        ({_class_name(module), *names, *(n.rpartition(".")[2] for n in names)}, (names[0], module))
        for module, names in inside.items()
        if not isinstance(module, OptimizedModule)
    ]


def _class_name(module: nn.Module) -> str:
    """Name of a module's class; of that before parametrizations, which make one of their own."""
    return str(type_before_parametrizations(module).__name__)


def _channel_axis(module: nn.Module, channel_axis: int | None) -> int:
    if channel_axis is not None:
        return channel_axis
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return -1 if len(module.normalized_shape) == 1 else 1
    return -1 if isinstance(module, _FEATURES_LAST) else 1


def _with_instances_on_axis_1(root: nn.Module) -> set[nn.Module]:
    """Modules that have ``batch_first=False``, and all those inside of them."""
    return {
        inner
        for module in root.modules()
        if has_instances_on_axis_1(module)
        for inner in module.modules()
    }


def _hooks_of(root: nn.Module) -> Iterator[tuple[nn.Module, int, Any]]:
    """All forward hooks in a model: the module, the key of the hook, and the hook."""
    for module in root.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            yield from ((module, key, hook) for key, hook in hooks.items())


def _discard(module: nn.Module, key: int) -> None:
    """Take a hook off without its handle, which only the one who registered it has."""
    for hooks in (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._forward_hooks_with_kwargs,
        module._forward_pre_hooks_with_kwargs,
        module._forward_hooks_always_called,
    ):
        hooks.pop(key, None)
