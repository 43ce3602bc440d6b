"""Figures by name, to be shown one at a time, as in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tensorstate.counting import StateHistogram
from tensorstate.metrics import network_efficiency
from tensorstate.report import label_figures, layer_figures, network_figures, neuron_figures
from tensorstate.report.aiq_figure import aiq
from tensorstate.report.figure import Figure
from tensorstate.report.sample_figures import rarefaction
from tensorstate.storage import LayerStates, StateRun

if TYPE_CHECKING:
    from bokeh.plotting import figure

__all__ = [
    "HistogramFigure",
    "LayerFigure",
    "RunFigure",
    "plot_histogram",
    "plot_layer",
    "plot_run",
]

LayerFigure: TypeAlias = Literal[
    "rank_frequency",
    "spectrum",
    "rarefaction",
    "firing_rates",
    "most_frequent_states",
    "label_overlap",
]
RunFigure: TypeAlias = Literal["efficiency", "aiq", "label_information"]
HistogramFigure: TypeAlias = Literal["rank_frequency", "spectrum"]


@dataclass(frozen=True)
class _Kind:
    """How a figure is drawn, and what there has to be for it."""

    draw: Callable[[Any], Figure | None]
    needs: str


_OF_LAYERS = {
    "rank_frequency": _Kind(layer_figures.rank_frequency, "states"),
    "spectrum": _Kind(layer_figures.spectrum, "states"),
    "rarefaction": _Kind(rarefaction, "two instances, captured with histogram='stored'"),
    "firing_rates": _Kind(neuron_figures.firing_rates, "states, captured with histogram='stored'"),
    "most_frequent_states": _Kind(
        neuron_figures.most_frequent_states,
        "a state that was seen twice and, for more than 128 neurons, a capture with "
        "histogram='stored'",
    ),
    "label_overlap": _Kind(
        label_figures.label_overlap,
        "states of two labels: see StateRun.set_labels and histogram='stored'",
    ),
}
_OF_RUNS = {
    "efficiency": _Kind(network_figures.efficiency, "a layer with states"),
    "label_information": _Kind(
        label_figures.label_information,
        "labels, and a layer with states: see StateRun.set_labels and histogram='stored'",
    ),
}
_OF_HISTOGRAMS = {
    "rank_frequency": _Kind(lambda h: layer_figures.rank_frequency_of(*h.spectrum()), "states"),
    "spectrum": _Kind(lambda h: layer_figures.spectrum_of(*h.spectrum()), "states"),
}


def plot_layer(layer: LayerStates, name: str) -> figure:
    """Draw a figure of a layer; see `LayerStates.plot`."""
    return _drawn(_OF_LAYERS, name, layer, f"layer {layer.name!r}")


def plot_run(run: StateRun, name: str, accuracy: float | None) -> figure:
    """Draw a figure of a run; see `StateRun.plot`."""
    with_accuracy = _Kind(partial(_aiq_of, accuracy=accuracy), "a layer with states")
    return _drawn({**_OF_RUNS, "aiq": with_accuracy}, name, run, "run")


def _aiq_of(run: StateRun, accuracy: float | None) -> Figure | None:
    if accuracy is None:
        raise ValueError(
            "an aIQ needs the accuracy of the network: plot('aiq', accuracy=0.9), for example"
        )
    model = str(run.attributes.get("model") or "network")
    return aiq({model: (network_efficiency(run), accuracy)})


def plot_histogram(histogram: StateHistogram, name: str) -> figure:
    """Draw a figure of a histogram; see `StateHistogram.plot`."""
    return _drawn(_OF_HISTOGRAMS, name, histogram, "histogram")


def _drawn(kinds: Mapping[str, _Kind], name: str, shown: Any, what: str) -> figure:
    if name not in kinds:
        raise ValueError(
            f"there is no figure {name!r} of a {what.split()[0]}: choose one of {', '.join(kinds)}"
        )
    found = kinds[name].draw(shown)
    if found is None:
        raise ValueError(f"there is no figure {name!r} of the {what}: it needs {kinds[name].needs}")
    return found.titled()
