"""What a page shows of the network and of each layer: figures, and what to keep in mind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tensorstate.metrics import sample_support
from tensorstate.report import (
    aiq_figure,
    comparison_figures,
    label_figures,
    layer_figures,
    network_figures,
    neuron_figures,
    sample_figures,
)
from tensorstate.report.drawing import percent
from tensorstate.report.embedding import Packed, PlacedFigure, pack
from tensorstate.report.figure import Figure
from tensorstate.report.samples import is_live, release
from tensorstate.storage import LayerStates, StateRun

__all__ = ["Chapter", "layer_chapters", "network_figures_of"]

_T = TypeVar("_T")

_OF_A_LAYER: tuple[Callable[[LayerStates], Figure | None], ...] = (
    layer_figures.rank_frequency,
    layer_figures.spectrum,
    sample_figures.rarefaction,
    neuron_figures.firing_rates,
    neuron_figures.most_frequent_states,
    label_figures.label_overlap,
)
"""Figures of a layer, in their order on the page."""


@dataclass(frozen=True)
class Chapter:
    """The part of a page that is about a layer.

    Attributes
    ----------
    name, anchor : str
        Of the layer, and where on the page it is.
    about : str
        The main numbers in a line.
    notes : list of str
        What to keep in mind.
    figures : Packed or None
        None if there is nothing to draw.
    """

    name: str
    anchor: str
    about: str
    notes: list[str]
    figures: Packed | None


def network_figures_of(
    runs: Mapping[str, StateRun], networks: Mapping[str, tuple[float, float]]
) -> Packed | None:
    """Draw what is to be seen of whole networks; None if there is nothing.

    Parameters
    ----------
    runs : mapping of str to StateRun
        By name.
    networks : mapping of str to (float, float)
        Network efficiency and accuracy, both 0 to 1, of the runs of which both are known.
    """
    if len(runs) > 1:
        along = comparison_figures.efficiencies(runs)
    else:
        along = network_figures.efficiency(next(iter(runs.values())))
    groups = [
        _placed(along),
        _placed(comparison_figures.distances(runs)),
        [
            *_placed(aiq_figure.aiq(networks)),
            *_side_by_side(runs, label_figures.label_information, len(runs) > 1),
        ],
    ]
    return pack("figures-network", groups)


def layer_chapters(runs: Mapping[str, StateRun], anchors: Mapping[str, str]) -> Iterator[Chapter]:
    """Draw what is to be seen of each layer, one layer after the other.

    Parameters
    ----------
    runs : mapping of str to StateRun
        By name.
    anchors : mapping of str to str
        Names of layers, of any of the runs, and where each is on the page.
    """
    for name, anchor in anchors.items():
        layers = {run_name: run[name] for run_name, run in runs.items() if name in run}
        groups = [_side_by_side(layers, draw, len(runs) > 1, name) for draw in _OF_A_LAYER]
        if len(runs) == 1:
            # One grid for all of them; figures of several runs are compared row by row.
            groups = [[placed for group in groups for placed in group]]
        about = "; ".join(_in_a_line(run, layer, runs) for run, layer in layers.items())
        notes = [note for run, layer in layers.items() for note in _notes(run, layer, runs)]
        for layer in layers.values():
            release(layer)
        yield Chapter(name, anchor, about, notes, pack(f"figures-{anchor}", groups))


def _placed(figure: Figure | None) -> list[PlacedFigure]:
    """Place a figure of all runs together."""
    return [PlacedFigure(figure, "", "network")] if figure else []


def _side_by_side(
    shown: Mapping[str, _T], draw: Callable[[_T], Figure | None], several: bool, of: str = ""
) -> list[PlacedFigure]:
    """Draw the same of every run; what one of them lacks is left out."""
    found = ((run, draw(one)) for run, one in shown.items())
    return [
        PlacedFigure(figure, run if several else "", f"{run} {of}")
        for run, figure in found
        if figure
    ]


def _in_a_line(run: str, layer: LayerStates, runs: Mapping[str, StateRun]) -> str:
    states = layer.state_count
    told = f"{layer.neurons:,} neurons, {states:,} states"
    if states:
        told += f", efficiency {percent(layer.efficiency())}"
    return f"{run}: {told}" if len(runs) > 1 else told


def _notes(run: str, layer: LayerStates, runs: Mapping[str, StateRun]) -> Iterator[str]:
    where = f" of {run}" if len(runs) > 1 else ""
    if not layer.state_count:
        yield (
            f"This layer{where} holds no states, so there is nothing to draw: no data went through "
            "it while it was captured."
        )
        return
    flag = sample_support(*layer.spectrum(), layer.neurons).flag
    if flag:
        yield f"The sample of this layer{where} is small for its states ({flag})."
    if is_live(layer):
        yield (
            f"This layer{where} was counted while it was captured (a live histogram), and its "
            "states were not kept: figures that need them are left out."
        )
    if layer.positions is None:
        yield f"Instances of this layer{where} differ in their number of positions."
