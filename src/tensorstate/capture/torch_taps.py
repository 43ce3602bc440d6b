"""Where the captures of a PyTorch model are attached, and the hooks that reach them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakSet, ref

import torch
from torch import nn

from tensorstate.capture.options import CaptureOptions
from tensorstate.capture.recorder import StateRecorder
from tensorstate.capture.sites import SUFFIXES, unused_name, warn_of_not_met
from tensorstate.capture.torch import Hook, in_backward, main_output, record_tensor
from tensorstate.capture.torch_parameters import parameters_of
from tensorstate.storage import Parameters, RunWriter

__all__ = ["Place", "Places", "Taps"]


@dataclass(frozen=True, eq=False)
class Place:
    """Where states are captured: a module, before or after it."""

    path: str
    kind: str
    moment: str
    options: CaptureOptions
    instances_on_axis_1: bool
    module: ref[nn.Module]

    @property
    def name(self) -> str:
        """Name of its first capture."""
        return self.path + SUFFIXES[self.moment]

    def parameters(self) -> Parameters | None:
        """How many parameters the module has; None if that is not known yet."""
        module = self.module()
        return None if module is None else parameters_of(module)

    def __str__(self) -> str:
        what = "input" if self.moment == "before" else "output"
        return f"the {what} of module {self.path!r} ({self.kind})"


Places: TypeAlias = Mapping[tuple[nn.Module, str], Place]
"""What is captured of a model: the place of every module and moment, "before" or "after" it."""


class _Pass(threading.local):
    """The passes that this thread is in: how often each place was met, the innermost pass last."""

    def __init__(self) -> None:
        self.calls: list[Counter[Place]] = []


class _Captures(list[StateRecorder]):
    """The captures of a model, in the order in which data meets them; none of them in a copy."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, ()


class Taps:
    """The captures of a model, and the places that they are attached to.

    Parameters
    ----------
    writer : RunWriter
        The run, which expects a layer for every place.
    places : iterable of Place
        In the order of registration.
    """

    def __init__(self, writer: RunWriter, places: Iterable[Place]) -> None:
        self.captures = _Captures()
        self._handles: list[Any] = []
        self.models: WeakSet[nn.Module] = WeakSet()
        self._writer = writer
        self._recorders: dict[tuple[Place, int], StateRecorder] = {}
        self._met: list[tuple[Place, int]] = []
        self._pass = _Pass()
        self._lock = threading.Lock()
        self._warned = self._is_counted = False
        for place in places:
            self._add(place, 0)

    def attach(self, root: nn.Module, places: Places) -> None:
        """Put hooks on a model and its modules."""
        self._handles.append(root.register_forward_pre_hook(_PassBegins(self), prepend=True))
        for (module, moment), place in places.items():
            self._handles.append(_register(module, moment, _Probe(self, place)))
        self._handles.append(root.register_forward_hook(_PassEnds(self), always_call=True))

    def detach(self) -> None:
        """Take the hooks off the model; they may be attached to it again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextmanager
    def attached(self, root: nn.Module, places: Places) -> Iterator[None]:
        """Have the hooks on the model only for a while."""
        self.attach(root, places)
        try:
            yield
        finally:
            self.detach()

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
        without_a_call = (
            "a module whose weights are used without a call of it, as the out_proj of "
            "nn.MultiheadAttention,"
        )
        warn_of_not_met(names, without_a_call, stacklevel=2)

    def count_parameters(self, root: nn.Module) -> None:
        """Store how many parameters the model has, once that is known; a pass is over."""
        if self._is_counted or self._writer.closed:
            return
        parameters = parameters_of(root)
        if parameters is not None:
            self._writer.set_parameters(parameters)
            self._is_counted = True

    def meet(self, place: Place, value: Any) -> None:
        """Note that a pass reached a place, and record what is there."""
        calls = self._pass.calls[-1] if self._pass.calls else Counter[Place]()
        with self._lock:
            recorder = self._recorder_at(place, calls[place])
        calls[place] += 1
        if recorder.capture_on:
            record_tensor(recorder, value, str(place), place.instances_on_axis_1)

    def remove(self) -> None:
        """Take the hooks and what they gave the model off it."""
        self.detach()
        for model in self.models:
            model.__dict__.pop("efficiency_layers", None)

    def close(self) -> None:
        """Commit everything and end the recording."""
        self._writer.close()

    def _recorder_at(self, place: Place, occurrence: int) -> StateRecorder:
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

    def _order(self) -> Iterator[tuple[Place, int]]:
        yield from self._met
        yield from (key for key in self._recorders if key not in self._met)

    def _add(self, place: Place, occurrence: int) -> None:
        taken = {recorder.name for recorder in self.captures}
        name = unused_name(place.name, taken)
        recorder = StateRecorder.in_run(
            name, self._writer, place.options, place.path, place.parameters
        )
        self._recorders[place, occurrence] = recorder
        self.captures.append(recorder)


class _TapsHook(Hook):
    def __init__(self, taps: Taps) -> None:
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
            self._taps.count_parameters(module)


class _Probe(_TapsHook):
    def __init__(self, taps: Taps, place: Place) -> None:
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


def _register(module: nn.Module, moment: str, probe: _Probe) -> Any:
    if moment == "before":
        return module.register_forward_pre_hook(probe, with_kwargs=True)
    return module.register_forward_hook(probe, with_kwargs=True)
