"""Figures of how often the states of a layer were seen, from its spectrum alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tensorstate.report.colours import PALETTE
from tensorstate.report.drawing import (
    MOST_POINTS,
    log_spaced,
    new_plot,
    percent,
    plural,
    source_of,
)
from tensorstate.report.figure import Figure
from tensorstate.storage import LayerStates

__all__ = ["rank_frequency", "rank_frequency_of", "spectrum", "spectrum_of"]

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

    def rows_up_to(ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        group = np.searchsorted(ranks_to, ranks)
        return np.asarray(rows_to[group] - (ranks_to[group] - ranks) * times[group])

    ranks = log_spaced(distinct)
    times_of_ranks = times[np.searchsorted(ranks_to, ranks)]
    data = pd.DataFrame(
        {
            "rank": ranks,
            "times seen": times_of_ranks,
            "share of all states (%)": 100 * times_of_ranks / total,
            "share up to this rank (%)": 100 * rows_up_to(ranks) / total,
        }
    )
    top = _TOP if distinct > _TOP else 1
    share_of_top = float(rows_up_to(np.array([top]))[0] / total)
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
    if distinct == 1:
        title = f"All {total:,} states are the same one" if total > 1 else "There is only one state"
    elif times[0] == 1:
        title = f"Each of {distinct:,} states was seen once"
    else:
        frequent = "most frequent" if top == 1 else f"{top} most frequent"
        title = (
            f"The {frequent} of {distinct:,} distinct states make{'s' * (top == 1)} up "
            f"{percent(share_of_top)} of all {total:,}"
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


def spectrum(layer: LayerStates) -> Figure | None:
    """Draw how many states were seen once, twice, and so on.

    Parameters
    ----------
    layer : LayerStates
        Counted if it is not yet.

    Returns
    -------
    Figure or None
        None if the layer has no states. Where more than 200 different counts occur, they are put
        together in bins that are even on the logarithmic axis.
    """
    return spectrum_of(*layer.spectrum()) if layer.state_count else None


def spectrum_of(
    times_seen: NDArray[np.int64], number_of_states: NDArray[np.int64]
) -> Figure | None:
    """Draw a spectrum; None if it is empty."""
    if not len(times_seen):
        return None
    data = _binned(times_seen, number_of_states)
    plot = new_plot(
        "times seen",
        "states that were seen so often",
        x_axis_type="log",
        y_axis_type="log",
        tooltips=[
            ("times seen", "@{times seen, from}{0,0} to @{times seen, to}{0,0}"),
            ("states", "@states{0,0}"),
            ("states for each number of times", "@{states per number of times}{0,0.[0000]}"),
        ],
    )
    source = source_of(data.assign(x=np.sqrt(data.iloc[:, 0]) * np.sqrt(data.iloc[:, 1])))
    dots = plot.scatter("x", "states per number of times", source=source, color=PALETTE[0], size=6)
    plot.hover.renderers = [dots]
    distinct, total = int(number_of_states.sum()), int(times_seen @ number_of_states)
    once = int(number_of_states[times_seen == 1].sum())
    binned = len(data) < len(times_seen)
    return Figure(
        "spectrum",
        f"{percent(once / distinct)} of the {distinct:,} distinct states were seen only once",
        plot,
        data,
        f"Dots on two logarithmic axes: how many states were seen so many times. "
        f"{plural(once, 'state')} of {distinct:,} were seen once; the most frequent one "
        f"{plural(int(times_seen[-1]), 'time')}.",
        f"The states on the left are those that the sample hardly knows: {percent(once / total)} "
        "of all rows are states that were never seen before or after, which is about the chance "
        "that the next one is new."
        + (" Numbers of times are put together in bins, and dots are means of them." * binned),
        "It is the shape of the left end that tells of states that were not seen, and it changes "
        "with the number of instances. States of one instance resemble each other, which moves "
        "dots to the right.",
    )


def _binned(times_seen: NDArray[np.int64], number_of_states: NDArray[np.int64]) -> pd.DataFrame:
    """Put counts together until there are no more than a plot shows."""
    low = high = times_seen
    states = number_of_states
    if len(times_seen) > MOST_POINTS:
        edges = log_spaced(int(times_seen[-1]) + 1)
        bins, first = np.unique(np.searchsorted(edges, times_seen, side="right"), return_index=True)
        low, high = edges[bins - 1], edges[bins] - 1
        states = np.add.reduceat(number_of_states, first)
    return pd.DataFrame(
        {
            "times seen, from": low,
            "times seen, to": high,
            "states": states,
            "states per number of times": states / (high - low + 1),
        }
    )
