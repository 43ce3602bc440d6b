"""Efficiency models: a PyTorch module whose modules are probed by hooks."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.utils.parametrize import type_before_parametrizations

from tensorstate.capture.matching import match_layers
from tensorstate.capture.options import CaptureOptions
from tensorstate.capture.recorded import RecordedStates
from tensorstate.capture.recorder import StateRecorder
from tensorstate.capture.torch import (
    Hook,
    NoHook,
    StateCaptureHook,
    has_instances_on_axis_1,
    in_backward,
    main_output,
    record_tensor,
)
from tensorstate.storage import RunWriter, StoreLike, check_layer_name

__all__ = ["build", "captures_of", "without_captures"]

METHODS = {"before": ("before",), "after": ("after",), "both": ("before", "after")}
_SUFFIXES = {"before": "_pre_states", "after": "_states"}

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


@dataclass(frozen=True, eq=False)
class _Place:
    """Where states are captured: a module, before or after it."""

    path: str
    kind: str
    moment: str
    options: CaptureOptions
    instances_on_axis_1: bool

    @property
    def name(self) -> str:
        return self.path + _SUFFIXES[self.moment]

    def __str__(self) -> str:
        what = "input" if self.moment == "before" else "output"
        return f"the {what} of module {self.path!r} ({self.kind})"


class _Pass(threading.local):
    """The passes that this thread is in: how often each place was met, the innermost pass last."""

    def __init__(self) -> None:
        self.calls: list[Counter[_Place]] = []


class _Captures(list[StateRecorder]):
    """The captures of a model, in the order in which data meets them; none of them in a copy."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, ()


class _Taps:
    """The captures of a model, and the places that they are attached to.

    Parameters
    ----------
    writer : RunWriter
        The run, which expects a layer for every place.
    places : list of _Place
        In the order of registration.
    """

    def __init__(self, writer: RunWriter, places: list[_Place]) -> None:
        self.captures = _Captures()
        self.handles: list[Any] = []
        self.models: WeakSet[nn.Module] = WeakSet()
        self._writer = writer
        self._recorders: dict[tuple[_Place, int], StateRecorder] = {}
        self._met: list[tuple[_Place, int]] = []
        self._pass = _Pass()
        self._lock = threading.Lock()
        self._warned = False
        for place in places:
            self._add(place, 0)

    def begin(self) -> None:
        """Note that a pass through the model begins."""
        self._pass.calls.append(Counter())

    def end(self, *, whole: bool) -> None:
        """Note that the innermost pass is over; after the first whole one, warn of what it left."""
        if self._pass.calls:
            self._pass.calls.pop()
        if not whole or self._warned:
            return
        self._warned = True
        names = [r.name for key, r in self._recorders.items() if key not in self._met]
        if names:
            warnings.warn(
                f"the pass through the model did not reach {', '.join(names)}: nothing is recorded "
                "there, unless a later pass does; a module whose weights are used without a call "
                "of it, as the out_proj of nn.MultiheadAttention, cannot be reached",
                RuntimeWarning,
                stacklevel=2,
            )

    def meet(self, place: _Place, value: Any) -> None:
        """Note that a pass reached a place, and record what is there."""
        calls = self._pass.calls[-1] if self._pass.calls else Counter[_Place]()
        with self._lock:
            recorder = self._recorder_at(place, calls[place])
        calls[place] += 1
        if recorder.capture_on:
            record_tensor(recorder, value, place, place.instances_on_axis_1)

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self.handles:
            handle.remove()
        for model in self.models:
            model.__dict__.pop("efficiency_layers", None)

    def close(self) -> None:
        """Commit everything and end the recording."""
        self._writer.close()

    def _recorder_at(self, place: _Place, occurrence: int) -> StateRecorder:
        key = (place, occurrence)
        if key not in self._recorders:
            self._writer.expect_another_layer()
            self._add(place, occurrence)
        recorder = self._recorders[key]
        if key not in self._met:
            recorder.set_index(len(self._met))
            self._met.append(key)
            self.captures[:] = [self._recorders[k] for k in self._order()]
        return recorder

    def _order(self) -> Iterator[tuple[_Place, int]]:
        yield from self._met
        yield from (key for key in self._recorders if key not in self._met)

    def _add(self, place: _Place, occurrence: int) -> None:
        taken = {recorder.name for recorder in self.captures}
        numbered = (f"{place.name}_{number}" for number in range(1, len(taken) + 2))
        name = next(n for n in (place.name, *numbered) if n not in taken)
        recorder = StateRecorder.in_run(name, self._writer, place.options, place.path)
        self._recorders[place, occurrence] = recorder
        self.captures.append(recorder)


class _TapsHook(Hook):
    def __init__(self, taps: _Taps) -> None:
        self._taps = taps


class _PassBegins(_TapsHook):
    @torch.compiler.disable
    def __call__(self, module: nn.Module, args: Any) -> None:
        if not in_backward():
            self._taps.begin()


class _PassEnds(_TapsHook):
    @torch.compiler.disable
    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if not in_backward():
            # What a pass that raised an error puts out is None.
            self._taps.end(whole=output is not None)


class _Probe(_TapsHook):
    def __init__(self, taps: _Taps, place: _Place) -> None:
        super().__init__(taps)
        self._place = place

    # What is compiled calls this as it is: a tensor that is traced holds no values.
    @torch.compiler.disable
    def __call__(self, module: nn.Module, args: Any, kwargs: Any, *output: Any) -> None:
        if in_backward():
            return
        if getattr(module, "_is_replica", False):
            raise ValueError(
                "nn.DataParallel runs the parts of a batch in threads, whose rows would be in any "
                "order: capture the module on one device, or use DistributedDataParallel"
            )
        if output:
            self._taps.meet(self._place, main_output(output[0]))
        else:
            self._taps.meet(self._place, next(iter((*args, *kwargs.values())), None))


_taps_of: WeakKeyDictionary[nn.Module, _Taps] = WeakKeyDictionary()


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
    if method not in METHODS:
        choices = ", ".join(map(repr, METHODS))
        raise ValueError(f"unknown method {method!r}: choose one of {choices}")
    if isinstance(root, torch.jit.ScriptModule):
        raise TypeError(
            "a scripted module runs outside of Python, where no hook reaches it: "
            "capture the module that it was made from"
        )
    matched = match_layers(_named(root), attach_to, exclude)
    sequence_first = _with_instances_on_axis_1(root)
    places = {
        (module, moment): _Place(
            path,
            _class_name(module),
            moment,
            replace(options, channel_axis=_channel_axis(module, channel_axis)),
            module in sequence_first,
        )
        for path, module in matched
        for moment in METHODS[method]
    }
    for place in places.values():
        check_layer_name(place.name)
    writer = options.open(storage_path, layers=len(places), model=type(root).__name__)
    taps = _Taps(writer, list(places.values()))
    taps.handles.append(root.register_forward_pre_hook(_PassBegins(taps), prepend=True))
    for (module, moment), place in places.items():
        taps.handles.append(_register(module, moment, _Probe(taps, place)))
    taps.handles.append(root.register_forward_hook(_PassEnds(taps), always_call=True))
    # What is compiled does not look for hooks again.
    torch.compiler.reset()
    _taps_of[root] = taps
    taps.models.update((root, model))
    for one in taps.models:
        # Past the tracking of modules, which a wrapper hands on to what it wraps.
        one.__dict__["efficiency_layers"] = taps.captures
    return model


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


def _register(module: nn.Module, moment: str, probe: _Probe) -> Any:
    if moment == "before":
        return module.register_forward_pre_hook(probe, with_kwargs=True)
    return module.register_forward_hook(probe, with_kwargs=True)


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
