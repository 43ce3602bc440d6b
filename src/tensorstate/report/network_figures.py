"""Figures of all layers of a network."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tensorstate.metrics import network_efficiency, sample_support
from tensorstate.report.drawing import (
    add_bars,
    add_legend,
    named_ticks,
    new_plot,
    percent,
    plural,
    shortened,
)
from tensorstate.report.figure import Figure
from tensorstate.storage import LayerStates

__all__ = ["efficiency", "efficiency_table"]


def efficiency(run: Mapping[str, LayerStates]) -> Figure | None:
    """Draw the efficiency of each layer, in the order in which data meets them.

    Parameters
    ----------
    run : StateRun, or mapping of str to LayerStates
        Layers are counted if they are not yet.

    Returns
    -------
    Figure or None
        None if no layer has states.
    """
    data = efficiency_table(run)
    known = data.dropna()
    if known.empty:
        return None
    plot = new_plot(
        "layer, from input to output",
        "efficiency (%)",
        tooltips=[
            ("layer", "@layer"),
            ("efficiency", "@{efficiency (%)}{0.00} %"),
            ("ceiling of the sample", "@{ceiling (%)}{0.00} %"),
            ("note", "@note"),
        ],
        height=380,
        x_range=(0.4, len(data) + 0.6),
        y_range=(0, 1.08 * max(known["efficiency (%)"].max(), known["ceiling (%)"].max(), 1)),
    )
    legend = ["efficiency", "ceiling of the sample"]
    add_bars(plot, "efficiency (%)", "ceiling (%)", data, legend)
    named_ticks(plot.xaxis, [*run])
    add_legend(plot)
    values = known.set_index("layer")["efficiency (%)"] / 100
    best, worst = str(values.idxmax()), str(values.idxmin())
    limited = int((known["note"] != "").sum())
    extremes = (
        f"{shortened(best)} uses {percent(values.max())} of its capacity"
        if len(values) == 1
        else f"from {percent(values.min())} ({shortened(worst)}) "
        f"to {percent(values.max())} ({shortened(best)})"
    )
    whole = len(known) == len(data)
    mean = f"Network efficiency {percent(network_efficiency(values))}: " if whole else ""
    return Figure(
        "efficiency",
        f"{mean}{extremes}" if mean else extremes[0].upper() + extremes[1:],
        plot,
        data,
        f"Bars of the efficiency of {plural(len(known), 'layer')} in order: {extremes}. A dash "
        "above each bar marks the most that its number of states allows.",
        "Efficiency is the entropy of the states of a layer over its number of neurons: 100 % if "
        "all patterns of firing neurons were equally frequent. The network's is the geometric mean "
        "of all layers.",
        f"{plural(limited, 'layer')} of {len(data)} "
        f"{'is' if limited == 1 else 'are'} limited by the sample: there, more instances would "
        "raise the bar. Bars that touch their dash say nothing of the layer."
        if limited
        else "A bar that comes close to its dash measures the sample and not the layer; here none "
        "does.",
    )


def efficiency_table(run: Mapping[str, LayerStates]) -> pd.DataFrame:
    """Return number, name, efficiency, ceiling and flag of layers; NaN where there are no states.

    Examples
    --------
    >>> import tensorstate as ts
    >>> layer = ts.StateRecorder("layer")
    >>> layer.record([[1.0, -1.0], [1.0, 2.0]])
    >>> efficiency_table({"layer": layer})["efficiency (%)"].tolist()
    [50.0]
    """
    rows = []
    for number, (name, layer) in enumerate(run.items(), 1):
        if layer.state_count == 0:
            rows.append((number, name, float("nan"), float("nan"), "no states"))
            continue
        support = sample_support(*layer.spectrum(), layer.neurons)
        share = 100 * layer.efficiency()
        rows.append((number, name, share, 100 * support.ceiling, support.flag))
    return pd.DataFrame(rows, columns=["number", "layer", "efficiency (%)", "ceiling (%)", "note"])
