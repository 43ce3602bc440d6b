"""Figures of single neurons of a layer, and of its most frequent states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tensorstate.bits import decompress_states
from tensorstate.counting.keys import WIDEST_EXACT
from tensorstate.report.colours import PALETTE, fading
from tensorstate.report.drawing import MOST_POINTS, new_plot, percent, plural, source_of
from tensorstate.report.figure import Figure
from tensorstate.report.samples import SAMPLE_STATES, is_live, sample_of, sampled_words
from tensorstate.storage import LayerStates

__all__ = ["firing_rates", "most_frequent_states"]

STATES = 10
"""So many of the most frequent states are shown."""

CELLS = 256
"""A state is drawn in so many cells at most."""


def firing_rates(layer: LayerStates, most_states: int = SAMPLE_STATES) -> Figure | None:
    """Draw in which share of the states each neuron fires, sorted.

    Parameters
    ----------
    layer : LayerStates
    most_states : int
        Of a layer with more states, instances with about so many are looked at.

    Returns
    -------
    Figure or None
        None if the layer has no states, or was captured with ``histogram="live"``. Drawn are all
        neurons if there are at most 200, else that many, evenly through their order.
    """
    if layer.state_count == 0 or is_live(layer):
        return None
    instances = sample_of(layer, most_states)
    table = layer.neuron_summary(instances)
    neurons = len(table)
    ordered = table.sort_values(["fired"], ascending=False, kind="stable").reset_index()
    places = np.unique(np.rint(np.linspace(0, neurons - 1, min(neurons, MOST_POINTS))).astype(int))
    shown = ordered.iloc[places]
    data = pd.DataFrame(
        {
            "rank": places + 1,
            "neuron": shown["neuron"].to_numpy(),
            "fired (states)": shown["fired"].to_numpy(),
            "rate (%)": 100 * shown["rate"].to_numpy(),
        }
    )
    plot = new_plot(
        "neurons, from the one that fires most",
        "firing rate (% of the states)",
        tooltips=[
            ("neuron", "@neuron"),
            ("rank", "@rank{0,0}"),
            ("firing rate", "@{rate (%)}{0.[0000]} %"),
            ("fired in", "@{fired (states)}{0,0} states"),
        ],
        x_range=(0.5 - neurons / 100, neurons + 0.5 + neurons / 100),
        y_range=(0, 104),
    )
    bars = plot.vbar(
        "rank", 0.85 * neurons / len(data), "rate (%)", source=source_of(data), color=PALETTE[0]
    )
    plot.hover.renderers = [bars]
    plot.hover.mode = "vline"
    plot.xgrid.visible = False
    dead, always = int(table["dead"].sum()), int(table["always_on"].sum())
    median = percent(float(table["rate"].median()))
    numbers = f"{dead:,} never {_fires(dead)} and {always:,} always {_do(always)}"
    return Figure(
        "firing_rates",
        f"Of {plural(neurons, 'neuron')}, {numbers}; the median fires in {median} of the states",
        plot,
        data,
        f"Bars of the firing rates of {plural(neurons, 'neuron')}, sorted: {numbers}; from "
        f"{percent(float(table['rate'].max()))} to {percent(float(table['rate'].min()))}, with a "
        f"median of {median}.",
        "A neuron that never fires, or always does, tells nothing of its input. One that fires in "
        "half of the states could tell most: one bit.",
        "A neuron that never fires here may do so on other data. Neurons that fire at good rates "
        "may still repeat each other: that shows in the states and not in this figure."
        + sampled_words(instances),
    )


def _fires(number: int) -> str:
    return "fires" if number == 1 else "fire"


def _do(number: int) -> str:
    return "does" if number == 1 else "do"


def most_frequent_states(layer: LayerStates) -> Figure | None:
    """Draw the ten most frequent states as patterns of firing neurons.

    Parameters
    ----------
    layer : LayerStates
        Counted if it is not yet.

    Returns
    -------
    Figure or None
        None if no state was seen twice, or the layer has more than 128 neurons and was captured
        with ``histogram="live"``, which does not keep the states. Neurons are drawn one by one if
        there are at most 256, else put together in that many cells.
    """
    if layer.state_count == 0 or layer.spectrum()[0][-1] == 1:
        return None
    if is_live(layer) and layer.neurons > 8 * WIDEST_EXACT:
        return None
    top = layer.histogram().most_frequent(STATES)
    packed = top.packed_states(None if is_live(layer) else layer.raw_states.__getitem__)
    firing = decompress_states(packed, layer.neurons)
    total = layer.state_count
    data = pd.DataFrame(
        {
            "rank": np.arange(1, len(packed) + 1),
            "times seen": top.counts,
            "share (%)": 100 * top.counts / total,
            "firing neurons": firing.sum(axis=1),
            "packed state (hexadecimal)": [state.tobytes().hex() for state in packed],
        }
    )
    plot = _patterns(data, firing)
    shares = top.counts / total
    shown = plural(len(data), "state")
    grouped = layer.neurons > CELLS
    return Figure(
        "most_frequent_states",
        f"The most frequent state is {percent(shares[0])} of all, with "
        f"{int(firing[0].sum()):,} of {plural(layer.neurons, 'neuron')} firing",
        plot,
        data,
        f"A row of cells for each of the {shown} that were seen most often, a cell for each "
        f"{'group of neurons' if grouped else 'neuron'}, coloured where neurons fire. They were "
        f"seen from {int(top.counts[0]):,} to {plural(int(top.counts[-1]), 'time')} and are "
        f"{percent(shares.sum())} of all states.",
        "Columns that have one colour in all rows are neurons that these states do not depend on; "
        "rows that differ in few cells are variants of one pattern."
        + (
            " A cell stands for several neurons: the stronger its colour, the more of them fire."
            if grouped
            else ""
        ),
        "These are a few of many states: where they are a small share of all, the rest may look "
        "different. The order of neurons within a layer has no meaning.",
    )


def _patterns(data: pd.DataFrame, firing: NDArray[np.bool_]) -> Any:
    """Draw a row for each state, with a cell for each neuron or group of neurons."""
    neurons = firing.shape[1]
    plot = new_plot(
        "neuron",
        "share of all states",
        tooltips=[
            ("rank", "@rank"),
            ("times seen", "@{times seen}{0,0}"),
            ("share", "@{share (%)}{0.[0000]} %"),
            ("firing neurons", "@{firing neurons}{0,0}"),
            ("neuron", "$x{0}"),
            ("fires here", "@image %"),
        ],
        height=110 + 22 * len(data),
        x_range=(-0.5, neurons - 0.5),
        y_range=(len(data) + 0.5, 0.5),
    )
    from bokeh.models import LinearColorMapper

    edges = np.linspace(0, neurons, min(neurons, CELLS) + 1).astype(np.int64)
    sums = np.add.reduceat(firing.astype(np.int64), edges[:-1], axis=1)
    cells = np.rint(100 * sums / np.diff(edges)).astype(np.uint8)
    source = source_of(data.iloc[:, :4])
    source.data["image"] = [row[None] for row in cells]
    source.data["bottom"] = (data["rank"] - 0.42).tolist()
    image = plot.image(
        "image",
        x=-0.5,
        y="bottom",
        dw=neurons,
        dh=0.84,
        source=source,
        color_mapper=LinearColorMapper(palette=fading(PALETTE[0]), low=0, high=100),
    )
    plot.hover.renderers = [image]
    plot.grid.visible = False
    plot.yaxis.ticker = data["rank"].tolist()
    plot.yaxis.major_label_overrides = {
        rank: percent(share / 100)
        for rank, share in zip(data["rank"].tolist(), data["share (%)"], strict=True)
    }
    return plot
