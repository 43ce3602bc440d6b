"""Figures that compare two or more runs."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tensorstate.report.drawing import (
    add_legend,
    add_series,
    named_ticks,
    new_plot,
    percent,
    plural,
    shortened,
    source_of,
)
from tensorstate.report.figure import Figure
from tensorstate.report.network_figures import efficiency_table
from tensorstate.report.samples import release
from tensorstate.storage import LayerStates

__all__ = ["distances", "efficiencies"]

MOST_DISTINCT = 10_000_000
"""Layers with more distinct states are not compared state by state."""


def efficiencies(runs: Mapping[str, Mapping[str, LayerStates]]) -> Figure | None:
    """Draw the efficiency of each layer of several runs, side by side.

    Parameters
    ----------
    runs : mapping of str to StateRun
        By their names; layers with the same name are put above each other, in the order of the
        first run that has them.

    Returns
    -------
    Figure or None
        None if there are fewer than two runs with states.
    """
    tables = {name: efficiency_table(run).dropna() for name, run in runs.items()}
    tables = {name: table for name, table in tables.items() if len(table)}
    if len(tables) < 2:
        return None
    layers = [*dict.fromkeys(layer for run in runs.values() for layer in run)]
    place = {layer: number for number, layer in enumerate(layers, 1)}
    data = pd.concat(
        [
            table.assign(number=table["layer"].map(place)).assign(run=name)
            for name, table in tables.items()
        ],
        ignore_index=True,
    )[["run", "number", "layer", "efficiency (%)", "ceiling (%)", "note"]]
    plot = new_plot(
        "layer, from input to output",
        "efficiency (%)",
        tooltips=[
            ("run", "@run"),
            ("layer", "@layer"),
            ("efficiency", "@{efficiency (%)}{0.00} %"),
            ("ceiling of the sample", "@{ceiling (%)}{0.00} %"),
            ("note", "@note"),
        ],
        height=360 + 22 * len(tables),
        x_range=(0.4, len(layers) + 0.6),
    )
    for number, name in enumerate(tables):
        rows = data[data["run"] == name].sort_values("number")
        add_series(plot, "number", "efficiency (%)", source_of(rows), number, name)
    plot.y_range.start = 0
    named_ticks(plot.xaxis, layers)
    add_legend(plot)
    of_layers = data.groupby("layer", sort=False)["efficiency (%)"]
    spread = (of_layers.max() - of_layers.min())[of_layers.count() > 1]
    if len(spread) and spread.max() == 0:
        title = "No layer differs in efficiency from run to run"
    elif len(spread):
        rows = data[data["layer"] == spread.idxmax()]
        high, low = (
            rows.iloc[int(place)]
            for place in (rows["efficiency (%)"].argmax(), rows["efficiency (%)"].argmin())
        )
        numbers = (
            f"{shortened(high['layer'])}, with {percent(high['efficiency (%)'] / 100)} in "
            f"{shortened(high['run'], 30)} and {percent(low['efficiency (%)'] / 100)} in "
            f"{shortened(low['run'], 30)}"
        )
        title = f"Runs differ most in {numbers}"
    else:
        title = "No layer has the same name in two runs"
    return Figure(
        "efficiencies",
        title,
        plot,
        data,
        f"Lines of the efficiency along the network, one for each of {len(tables)} runs. {title}.",
        "Each line is a run; a layer in which lines lie apart uses its neurons differently in "
        "these runs.",
        "Efficiencies of small samples are too low, the more so the smaller they are: compare "
        "runs with as many instances, and look at the ceilings in the data.",
    )


def distances(runs: Mapping[str, Mapping[str, LayerStates]]) -> Figure | None:
    """Draw how far the states of each layer are from those in the first run.

    Parameters
    ----------
    runs : mapping of str to StateRun
        By their names; layers with the same name and number of neurons are compared, if they have
        at most ten million distinct states.

    Returns
    -------
    Figure or None
        None if no layer can be compared.
    """
    (base_name, base), *others = runs.items() if runs else [("", {})]
    rows, left_out = [], 0
    for name, run in others:
        for number, (layer_name, layer) in enumerate(base.items(), 1):
            other = run.get(layer_name)
            if other is None or not (layer.state_count and other.state_count):
                continue
            if (
                layer.neurons != other.neurons
                or max(map(_distinct, (layer, other))) > MOST_DISTINCT
            ):
                left_out += 1
                continue
            found = layer.divergence(other)
            release(layer)
            release(other)
            rows.append((name, number, layer_name, found["distance"], 100 * found["shared_mass"]))
    if not rows:
        return None
    distance, shared = "Jensen-Shannon distance (0 to 1)", "shared mass (%)"
    data = pd.DataFrame(rows, columns=["run", "number", "layer", distance, shared])
    plot = new_plot(
        "layer, from input to output",
        distance,
        tooltips=[
            ("run", "@run"),
            ("layer", "@layer"),
            ("distance", f"@{{{distance}}}{{0.[0000]}}"),
            ("shared mass", f"@{{{shared}}}{{0.[00]}} %"),
        ],
        height=360 + 22 * len(others),
        x_range=(0.4, len(base) + 0.6),
        y_range=(0, 1.04),
    )
    for number, (name, _) in enumerate(others, 1):
        rows_of_run = source_of(data[data["run"] == name])
        add_series(plot, "number", distance, rows_of_run, number, name)
    named_ticks(plot.xaxis, [*base])
    add_legend(plot)
    most = data.iloc[int(data[distance].argmax())]
    numbers = (
        f"{shortened(most['layer'])} of {shortened(most['run'], 30)} is farthest from "
        f"{shortened(base_name, 30)}: they share {percent(most[shared] / 100)} of their states"
    )
    return Figure(
        "distances",
        numbers,
        plot,
        data,
        f"Lines of the distance of states from those of the same layer in "
        f"{shortened(base_name, 30)}, for {plural(len(others), 'other run')}. {numbers}.",
        "0 for layers that show the same states as often, and 1 for layers that have no state in "
        "common. It compares neuron by neuron: training changes it, and so does another order of "
        "the neurons.",
        "Networks that were trained from other random numbers have other neurons, and are far "
        "from each other whatever they have learned. Where most states were seen once, samples of "
        "the very same layer are far from each other, too."
        + (
            f" {plural(left_out, 'layer')} with other neurons or too many distinct states "
            f"{'is' if left_out == 1 else 'are'} left out."
            if left_out
            else ""
        ),
    )


def _distinct(layer: LayerStates) -> int:
    return int(layer.spectrum()[1].sum())
