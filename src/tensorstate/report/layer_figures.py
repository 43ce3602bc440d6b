"""Figures of the states of a layer: how often each was seen, and whether that was enough."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tensorstate.report.colours import PALETTE
from tensorstate.report.drawing import log_spaced, new_plot, percent, plural, source_of
from tensorstate.report.figure import Figure
from tensorstate.storage import LayerStates

__all__ = ["rank_frequency"]

_TOP = 10


def rank_frequency(layer: LayerStates) -> Figure | None:
    """Draw how often the most frequent state was seen, the second one, and so on.

    Parameters
    ----------
    layer : LayerStates
        Counted if it is not yet.

    Returns
    -------
    Figure or None
        None if the layer has no states. Drawn are all ranks if there are at most 200, else that
        many, evenly on the logarithmic axis; all numbers are exact.
    """
    if layer.state_count == 0:
        return None
    return rank_frequency_of(*layer.spectrum())


def rank_frequency_of(
    times_seen: NDArray[np.int64], number_of_states: NDArray[np.int64]
) -> Figure | None:
    """Draw the ranks that follow from a spectrum; None if it is empty."""
    if not len(times_seen):
        return None
    times, states = times_seen[::-1], number_of_states[::-1]
    ranks_to, rows_to = np.cumsum(states), np.cumsum(times * states)
    distinct, total = int(ranks_to[-1]), int(rows_to[-1])
    ranks = log_spaced(distinct)
    group = np.searchsorted(ranks_to, ranks)
    up_to = rows_to[group] - (ranks_to[group] - ranks) * times[group]
    data = pd.DataFrame(
        {
            "rank": ranks,
            "times seen": times[group],
            "share of all states (%)": 100 * times[group] / total,
            "share up to this rank (%)": 100 * up_to / total,
        }
    )
    top = min(_TOP, distinct)
    group_of_top = int(np.searchsorted(ranks_to, top))
    rows_of_top = int(rows_to[group_of_top] - (ranks_to[group_of_top] - top) * times[group_of_top])
    plot = new_plot(
        "rank of the state, 1 for the most frequent",
        "times seen",
        x_axis_type="log",
        y_axis_type="log",
        tooltips=[
            ("rank", "@rank{0,0}"),
            ("times seen", "@{times seen}{0,0}"),
            ("share of all states", "@{share of all states (%)}{0.[0000]} %"),
            ("share up to this rank", "@{share up to this rank (%)}{0.[00]} %"),
        ],
    )
    source = source_of(data)
    plot.line("rank", "times seen", source=source, color=PALETTE[0], line_width=1.5)
    dots = plot.scatter("rank", "times seen", source=source, color=PALETTE[0], size=5)
    plot.hover.renderers = [dots]
    if times[0] == 1:
        title = f"Each of {plural(distinct, 'state')} was seen once"
    else:
        frequent = "The most frequent" if top == 1 else f"The {top} most frequent"
        title = (
            f"{frequent} of {plural(distinct, 'distinct state')} "
            f"make up {percent(rows_of_top / total)} of all {total:,}"
        )
    return Figure(
        "rank_frequency",
        title,
        plot,
        data,
        f"Line on two logarithmic axes: times seen against the rank of a state. The most frequent "
        f"state was seen {plural(int(times[0]), 'time')}, the last of {distinct:,} "
        f"{plural(int(times[-1]), 'time')}.",
        "A steep line: the layer repeats a few states, and uses little of what it could tell. A "
        "flat line: all states are about equally frequent.",
        "The end on the right is made of states that were seen once or twice: how far it goes "
        "depends on how many instances were recorded.",
    )
