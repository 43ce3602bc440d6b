"""Figures of what states tell about the labels of instances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tensorstate.metrics import sample_support
from tensorstate.report.colours import PALETTE, QUIET, fading
from tensorstate.report.drawing import (
    add_bars,
    add_legend,
    named_ticks,
    new_plot,
    percent,
    plural,
    shortened,
    source_of,
)
from tensorstate.report.figure import Figure
from tensorstate.report.samples import (
    SAMPLE_STATES,
    is_live,
    labels_of,
    sample_of,
    sampled_words,
)
from tensorstate.storage import LayerStates

__all__ = ["label_information", "label_overlap"]

MOST_LABELS = 25
"""A matrix has so many rows at most."""


def label_overlap(layer: LayerStates, most_states: int = SAMPLE_STATES) -> Figure | None:
    """Draw how far the states of each two labels are from each other.

    Parameters
    ----------
    layer : LayerStates
        Of a run with labels (`StateRun.set_labels`).
    most_states : int
        Of a layer with more states, instances with about so many are looked at.

    Returns
    -------
    Figure or None
        None if the layer has no states, was captured with ``histogram="live"``, or there are no
        two labels. Of more than 25 labels, those that are most like another one are shown.
    """
    labels = None if layer.state_count == 0 or is_live(layer) else labels_of(layer)
    if labels is None:
        return None
    instances = sample_of(layer, most_states)
    pairs = layer.label_overlap(labels, instances).reset_index()
    pairs = pairs.astype({"label": str, "other": str})
    names = pairs["label"].unique()
    if len(names) < 2:
        return None
    others = pairs[pairs["label"] != pairs["other"]]
    nearest = others.groupby("label")["distance"].min()
    kept = set(nearest.sort_values(kind="stable").index[:MOST_LABELS])
    shown = [name for name in names if name in kept]
    pairs = pairs[pairs["label"].isin(kept) & pairs["other"].isin(kept)]
    data = pd.DataFrame(
        {
            "label": pairs["label"],
            "other label": pairs["other"],
            "Jensen-Shannon distance (0 to 1)": pairs["distance"],
            "shared mass (%)": 100 * pairs["shared_mass"],
        }
    ).reset_index(drop=True)
    plot = _matrix(data, shown)
    alike = others.iloc[int(others["distance"].argmin())]
    unlike = others.iloc[int(others["distance"].argmax())]
    some = len(shown) < len(names)
    pair = f"{shortened(alike['label'], 30)} and {shortened(alike['other'], 30)}"
    return Figure(
        "label_overlap",
        f"States of {pair} are most alike: they share {percent(alike['shared_mass'])}",
        plot,
        data,
        f"Matrix of {len(shown)} by {len(shown)} labels"
        + (f" of {len(names):,}, those that are most like another one" if some else "")
        + f", coloured by the distance of their states: from {alike['distance']:.3g} ({pair}) to "
        f"{unlike['distance']:.3g} ({shortened(unlike['label'], 30)} and "
        f"{shortened(unlike['other'], 30)}).",
        "Pale: the layer answers to both labels with the same states, as often. Strong: it tells "
        "them apart. The distance is 0 for equal distributions of states, and 1 for those that "
        "have no state in common; the shared mass is the share of states that both have.",
        "Where most states were seen once, all labels seem to be far from each other, whatever "
        "the layer does: look at its spectrum first." + sampled_words(instances),
    )


def _matrix(data: pd.DataFrame, labels: list[str]) -> Any:
    count = len(labels)
    distance = "Jensen-Shannon distance (0 to 1)"
    plot = new_plot(
        "label",
        "label",
        tooltips=[
            ("labels", "@label"),
            ("and", "@{other label}"),
            ("distance", f"@{{{distance}}}{{0.[0000]}}"),
            ("shared mass", "@{shared mass (%)}{0.[00]} %"),
        ],
        height=190 + 18 * max(count, 5),
        x_range=(0.5, count + 0.5),
        y_range=(count + 0.5, 0.5),
    )
    from bokeh.transform import linear_cmap

    colours = fading(PALETTE[0], 32)
    place = {label: number for number, label in enumerate(labels, 1)}
    cells = plot.rect(
        "x",
        "y",
        0.94,
        0.94,
        source=source_of(data.assign(x=data["label"].map(place), y=data["other label"].map(place))),
        color=linear_cmap(distance, colours, 0, 1),
        line_color=None,
    )
    plot.hover.renderers = [cells]
    plot.grid.visible = False
    named_ticks(plot.xaxis, labels, most=MOST_LABELS)
    named_ticks(plot.yaxis, labels, most=MOST_LABELS, slanted=False)
    for share, meaning in ((0, "0: alike"), (0.5, "0.5"), (1, "1: apart")):
        colour = colours[int(share * (len(colours) - 1))]
        nowhere = [float("nan")]
        plot.scatter(nowhere, nowhere, marker="square", size=14, color=colour, legend_label=meaning)
    add_legend(plot)
    plot.legend.orientation = "horizontal"
    return plot


def label_information(
    run: Mapping[str, LayerStates], most_states: int = SAMPLE_STATES
) -> Figure | None:
    """Draw what a state of each layer tells about the label of its instance.

    Parameters
    ----------
    run : StateRun, or mapping of str to LayerStates
        With labels (`StateRun.set_labels`).
    most_states : int
        Of layers with more states, instances with about so many are looked at.

    Returns
    -------
    Figure or None
        None if there are no labels, or no layer has states that were stored.
    """
    rows = []
    sampled = []
    for number, (name, layer) in enumerate(run.items(), 1):
        labels = None if layer.state_count == 0 or is_live(layer) else labels_of(layer)
        if labels is None:
            continue
        instances = sample_of(layer, most_states)
        if instances is not None:
            sampled.append(name)
        told = layer.label_information(labels, instances)
        flag = sample_support(*layer.spectrum(), layer.neurons).flag
        rows.append((number, name, *told[["information", "corrected", "label_entropy"]], flag))
    if not rows:
        return None
    bits = ["information (bits)", "corrected for bias (bits)", "label entropy (bits)"]
    data = pd.DataFrame(rows, columns=["number", "layer", *bits, "note"])
    supported = data[~data["note"].str.startswith("ceiling")]
    chosen = data if supported.empty else supported
    best = chosen.iloc[int(chosen[bits[0]].argmax())]
    entropy = float(data[bits[2]].max())
    plot = _bars(data, [*run], entropy)
    name, numbers = shortened(best["layer"]), f"{best[bits[0]]:.3g} of {entropy:.3g} bits"
    return Figure(
        "label_information",
        f"The sample is too small to tell what states say about labels: {numbers} in {name}"
        if supported.empty
        else f"A state of {name} tells {numbers} of the label",
        plot,
        data,
        f"Bars of the mutual information of states and labels of {plural(len(data), 'layer')}, "
        f"below the entropy of the labels: {numbers} in {name}.",
        "How much one state, at one position, tells about the label of its instance: 0 bits if "
        "all labels have the same states, and the entropy of the labels if a state is enough to "
        "know the label. Several positions together may tell more.",
        "Where nearly every state is new, its instance and so its label are known from it, "
        "whatever the layer does: bars then reach the entropy of the labels. The dash is what is "
        "left after the bias was subtracted to first order, which is not enough there."
        + (
            f" Of {plural(len(sampled), 'layer')}, instances with about {most_states:,} states "
            "were looked at."
            if sampled
            else ""
        ),
    )


def _bars(data: pd.DataFrame, names: list[str], entropy: float) -> Any:
    information, corrected = data.columns[2:4]
    plot = new_plot(
        "layer, from input to output",
        "information about the label (bits)",
        tooltips=[
            ("layer", "@layer"),
            ("information", f"@{{{information}}}{{0.[0000]}} bits"),
            ("corrected for bias", f"@{{{corrected}}}{{0.[0000]}} bits"),
            ("entropy of the labels", "@{label entropy (bits)}{0.[0000]} bits"),
            ("note", "@note"),
        ],
        height=380,
        x_range=(0.4, len(names) + 0.6),
        y_range=(min(0.0, float(data[corrected].min())), 1.08 * max(entropy, 0.01)),
    )
    legend = ["information", "corrected for the bias of the sample"]
    add_bars(plot, information, corrected, data, legend)
    plot.line(
        [0, len(names) + 1],
        [entropy, entropy],
        color=QUIET,
        line_dash="dashed",
        legend_label="entropy of the labels",
    )
    named_ticks(plot.xaxis, names)
    add_legend(plot)
    return plot
