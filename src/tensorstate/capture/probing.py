"""Probes on the layers of a Keras model, in place only while a pass through it is traced.

A probe wraps the ``call`` of a layer object. It acts only inside a pass of the efficiency model
that put it there (a context variable tells), so that the original model never records, also while
another thread traces; and it is taken away after the pass, so that the original is unchanged.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import keras
from keras.src.backend.common.symbolic_scope import get_symbolic_scope

from tensorstate.capture.backends import backend
from tensorstate.capture.keras import emit
from tensorstate.capture.keras_parameters import parameters_of
from tensorstate.capture.masks import input_mask, output_mask
from tensorstate.capture.options import CaptureOptions
from tensorstate.capture.recorder import StateRecorder
from tensorstate.capture.shapes import has_neurons_axis
from tensorstate.capture.sites import SUFFIXES, unused_name, warn_of_not_met
from tensorstate.capture.thresholds import check_threshold_count
from tensorstate.storage import RunWriter, StoreLike

__all__ = ["Taps"]


class _Site(NamedTuple):
    """A place where states are captured: a call of a layer, before or after it."""

    layer: keras.layers.Layer
    occurrence: int
    moment: str

    @property
    def key(self) -> tuple[int, int, str]:
        return id(self.layer), self.occurrence, self.moment

    @property
    def name(self) -> str:
        return str(self.layer.name) + SUFFIXES[self.moment]


@dataclass
class _Pass:
    """One pass through the model, while it is traced or run eagerly."""

    taps: Taps
    trace: Any
    symbolic_scope: Any
    calls: Counter[int] = field(default_factory=Counter)


_current_pass: ContextVar[_Pass | None] = ContextVar("tensorstate_pass", default=None)


class Taps:
    """The captures of an efficiency model, and the layers that they are attached to.

    Parameters
    ----------
    layers : sequence of keras.layers.Layer
        The layers to probe.
    moments : sequence of {"before", "after"}
        What to record of each.
    options : CaptureOptions
        How states are made and stored.
    """

    def __init__(
        self,
        layers: Sequence[keras.layers.Layer],
        moments: Sequence[str],
        options: CaptureOptions,
    ) -> None:
        self._layers = list(layers)
        self._ids = {id(layer) for layer in layers}
        self.moments = moments
        self._options = options
        self._writer: RunWriter | None = None
        self._recorders: dict[tuple[int, int, str], StateRecorder] = {}
        self._met: dict[tuple[int, int, str], _Site] = {}
        self._warned = False
        self._is_counted = False

    @property
    def recorders(self) -> list[StateRecorder]:
        """The captures in the order in which data meets them; last those not met so far."""
        met = [key for key in self._met if key in self._recorders]
        return [self._recorders[key] for key in dict.fromkeys([*met, *self._recorders])]

    def open(self, store: StoreLike | None, model: keras.Model) -> None:
        """Open the run and make the captures that are known: places met, and layers still to be."""
        parameters = parameters_of(model)
        self._is_counted = parameters is not None
        expected = [_Site(layer, 0, moment) for layer in self._layers for moment in self.moments]
        sites = {site.key: site for site in [*self._met.values(), *expected]}.values()
        self._writer = self._options.open(store, len(sites), model.name, parameters)
        for site in sites:
            self._recorder_at(site)

    @contextmanager
    def probing(self) -> Iterator[None]:
        """Probe the layers during one pass."""
        token = _current_pass.set(_Pass(self, backend().trace(), get_symbolic_scope()))
        for layer in self._layers:
            _install_probe(layer)
        try:
            with backend().ordered():
                yield
        finally:
            for layer in self._layers:
                _remove_probe(layer)
            _current_pass.reset(token)
        self._warn_of_layers_not_met()

    def count_parameters(self, model: keras.Model) -> None:
        """Store how many parameters the model has, once that is known; a pass is over."""
        if self._is_counted or self._writer is None or self._writer.closed:
            return
        parameters = parameters_of(model)
        if parameters is not None:
            self._writer.set_parameters(parameters)
            self._is_counted = True

    def watches(self, layer: keras.layers.Layer) -> bool:
        """Whether a layer is one of those that are probed."""
        return id(layer) in self._ids

    @property
    def uses_masks(self) -> bool:
        """Whether only what masks leave is recorded."""
        return self._options.variable_positions

    def meet(self, site: _Site, tensor: Any, mask: Callable[[], Any]) -> Any:
        """Note that a pass reached a place, record what is there, and return it to go on with.

        `mask` returns the mask of the tensor, for captures that use it.
        """
        _check_tensor(site, tensor, self._options)
        if site.key not in self._met:
            self._met[site.key] = site
        # Before the run is open, a pass only finds the places.
        if self._writer is None:
            return tensor
        return emit(self._recorder_at(site), tensor, mask() if self.uses_masks else None)

    def _recorder_at(self, site: _Site) -> StateRecorder:
        if site.key not in self._recorders:
            assert self._writer is not None
            taken = {recorder.name for recorder in self._recorders.values()}
            self._recorders[site.key] = StateRecorder.in_run(
                unused_name(site.name, taken),
                self._writer,
                self._options,
                source_layer=site.layer.path or site.layer.name,
                parameters=partial(parameters_of, site.layer),
            )
            self._recorders[site.key].settle = backend().settle
        recorder = self._recorders[site.key]
        if site.key in self._met:
            recorder.set_index(list(self._met).index(site.key))
        return recorder

    def _warn_of_layers_not_met(self) -> None:
        if self._warned or self._writer is None:
            return
        self._warned = True
        names = [r.name for key, r in self._recorders.items() if key not in self._met]
        only_inside = "layers that only run inside of a function that was compiled on its own"
        warn_of_not_met(names, only_inside, stacklevel=3)


def _check_tensor(site: _Site, tensor: Any, options: CaptureOptions) -> None:
    """Raise what keeps a layer from being captured, naming the layer."""
    what = f"the {'input' if site.moment == 'before' else 'output'} of layer {site.layer.name!r}"
    advice = "exclude the layer, or place a StateCapture by hand"
    info = backend().info(tensor)
    if info is None:
        raise ValueError(f"{what} is a {type(tensor).__name__}, not a tensor: {advice}")
    if not info.is_real:
        raise ValueError(f"{what} holds {info.dtype}, not real numbers: {advice}")
    axis = options.channel_axis
    if info.shape is not None and not has_neurons_axis(len(info.shape), axis):
        raise ValueError(
            f"{what} has the shape {info.shape}, without instances on axis 0 and neurons "
            f"on axis {axis}: {advice}"
        )
    neurons = None if info.shape is None else info.shape[axis]
    if neurons is not None:
        check_threshold_count(options.threshold, neurons, site.name)
    if backend().trace() != _require_pass().trace:
        raise ValueError(
            f"layer {site.layer.name!r} runs in a loop, a branch or a function compiled on its "
            f"own, where rows would be lost or out of order: attach to the layer that contains it"
        )


def _is_being_built(current: _Pass) -> bool:
    """Whether Keras interrupts a pass to run layers symbolically, so that they make weights."""
    return get_symbolic_scope() is not current.symbolic_scope


def _require_pass() -> _Pass:
    current = _current_pass.get()
    assert current is not None
    return current


class _Probe:
    """The wrapped call of one layer, and how many passes need it at the moment."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        # A quantised layer runs this instead of its call.
        self.attribute = "quantized_call" if _is_quantised(layer) else "call"
        self.own = layer.__dict__.get(self.attribute)
        self.passes = 0
        layer.__dict__[self.attribute] = _probed(layer, getattr(layer, self.attribute))

    def restore(self, layer: keras.layers.Layer) -> None:
        if self.own is None:
            del layer.__dict__[self.attribute]
        else:
            layer.__dict__[self.attribute] = self.own


_probes: dict[int, _Probe] = {}
_probes_lock = threading.Lock()


def _install_probe(layer: keras.layers.Layer) -> None:
    with _probes_lock:
        if id(layer) not in _probes:
            _probes[id(layer)] = _Probe(layer)
        _probes[id(layer)].passes += 1


def _remove_probe(layer: keras.layers.Layer) -> None:
    with _probes_lock:
        probe = _probes[id(layer)]
        probe.passes -= 1
        if probe.passes == 0:
            probe.restore(layer)
            del _probes[id(layer)]


def _is_quantised(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "quantization_mode", None) is not None


def _probed(layer: keras.layers.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
    def probed_call(*args: Any, **kwargs: Any) -> Any:
        current = _current_pass.get()
        if current is None or not current.taps.watches(layer) or _is_being_built(current):
            return call(*args, **kwargs)
        occurrence = current.calls[id(layer)]
        current.calls[id(layer)] += 1
        taps = current.taps
        name = next(iter(kwargs), "")
        first = args[0] if args else kwargs.get(name)
        # A layer may take the mask off its input.
        mask = input_mask(first, kwargs) if taps.uses_masks else None
        if "before" in taps.moments:
            first = taps.meet(_Site(layer, occurrence, "before"), first, lambda: mask)
            if args:
                args = (first, *args[1:])
            else:
                kwargs[name] = first
        outputs = call(*args, **kwargs)
        if "after" in taps.moments:
            site = _Site(layer, occurrence, "after")
            return taps.meet(site, outputs, lambda: output_mask(layer, first, mask, outputs))
        return outputs

    return probed_call
