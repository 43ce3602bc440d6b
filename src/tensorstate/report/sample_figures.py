"""The figure of whether the sample of a layer is large enough."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from tensorstate.counting.resampling import weighted_spectra
from tensorstate.metrics import entropy_of_spectrum
from tensorstate.report.colours import QUIET
from tensorstate.report.drawing import add_legend, add_series, new_plot, plural, source_of
from tensorstate.report.figure import Figure
from tensorstate.report.samples import SAMPLE_STATES, is_live
from tensorstate.storage import LayerStates

__all__ = ["rarefaction"]

MOST_SIZES = 8
"""A line has so many points at most, each with half of the instances of the next one."""

STILL_RISES = 0.02
"""A line that rises by more than this share of its end with twice the instances still rises."""


def rarefaction(
    layer: LayerStates, most_states: int = SAMPLE_STATES, seed: int = 0
) -> Figure | None:
    """Draw what the efficiency would be with fewer instances.

    Parameters
    ----------
    layer : LayerStates
        Counted if it is not yet.
    most_states : int
        Of a layer with more states, instances with about so many are looked at, and all of it
        once.
    seed : int
        What drawing instances begins with.

    Returns
    -------
    Figure or None
        None if the layer has fewer than two instances, or was captured with ``histogram="live"``.
    """
    if layer.state_count == 0 or layer.instance_count < 2 or is_live(layer):
        return None
    data = _curve(layer, most_states, seed)
    plot = new_plot(
        "instances",
        "efficiency (%)",
        x_axis_type="log",
        tooltips=[
            ("instances", "@instances{0,0}"),
            ("states", "@states{0,0}"),
            ("distinct states", "@{distinct states}{0,0}"),
            ("efficiency", "@{efficiency (%)}{0.00} %"),
            ("ceiling", "@{ceiling (%)}{0.00} %"),
        ],
    )
    source = source_of(data)
    plot.line(
        "instances",
        "ceiling (%)",
        source=source,
        color=QUIET,
        line_dash="dashed",
        legend_label="ceiling of so many states",
    )
    add_series(plot, "instances", "efficiency (%)", source, 0, "efficiency", size=7)
    plot.y_range.start = 0
    add_legend(plot)
    known = data.dropna()
    last, before = known.iloc[-1], known.iloc[max(len(known) - 2, 0)]
    doublings = max(math.log2(last["instances"] / before["instances"]), 1)
    rise = (last["efficiency (%)"] - before["efficiency (%)"]) / doublings
    verdict = (
        "it still rises" if rise > STILL_RISES * last["efficiency (%)"] else "it has levelled off"
    )
    numbers = (
        f"{last['efficiency (%)']:.3g} % with {plural(int(last['instances']), 'instance')}, "
        f"{before['efficiency (%)']:.3g} % with {int(before['instances']):,}"
    )
    sampled = layer.state_count > most_states and len(data) > 1
    return Figure(
        "rarefaction",
        f"Efficiency is {numbers}: {verdict}",
        plot,
        data,
        f"Line of the efficiency against the number of instances, on a logarithmic axis, below its "
        f"ceiling: {numbers}; {verdict}.",
        "Instances are left out at random, half of them at each step. A line that goes on rising "
        "says that the sample is too small, and that the true efficiency is higher; one that has "
        "become flat, that more instances would change little.",
        "A line along its ceiling says nothing of the layer: nearly every state is new. One that "
        "looks flat may rise again if instances of another kind come."
        + (
            f" But for its end, the line is from {plural(int(data['states'].iloc[-2]), 'state')} "
            "of instances spread over the layer."
            if sampled
            else ""
        ),
    )


def _curve(layer: LayerStates, most_states: int, seed: int) -> pd.DataFrame:
    chosen = layer.spread_instances(most_states)
    shuffled = np.random.default_rng(seed).permutation(chosen)
    sizes = np.unique(len(shuffled) >> np.arange(len(shuffled).bit_length()))[-MOST_SIZES:]
    groups = np.split(shuffled, sizes)[:-1]
    counted = [layer.histogram(np.sort(group)) for group in groups]
    spectra = weighted_spectra(counted, np.tri(len(sizes), dtype=np.int64))
    if len(chosen) < layer.instance_count:
        spectra.append(layer.spectrum())
        sizes = np.append(sizes, layer.instance_count)
    rows = []
    for size, (times, states) in zip(sizes.tolist(), spectra, strict=True):
        total = int(times @ states)
        bits = entropy_of_spectrum(times, states) if total else float("nan")
        most = min(math.log2(total) / layer.neurons, 1) if total else float("nan")
        share = 100 * bits / layer.neurons
        rows.append((size, total, int(states.sum()), share, 100 * most))
    columns = ["instances", "states", "distinct states", "efficiency (%)", "ceiling (%)"]
    return pd.DataFrame(rows, columns=columns)
