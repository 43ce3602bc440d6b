"""The figure of network efficiency and accuracy in one number."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from tensorstate.metrics import aIQ, aIQ_by_weight
from tensorstate.report.colours import QUIET
from tensorstate.report.drawing import (
    add_legend,
    add_series,
    new_plot,
    percent,
    shortened,
    source_of,
)
from tensorstate.report.figure import Figure

__all__ = ["aiq"]

WEIGHTS = tuple(float(weight) for weight in np.geomspace(0.25, 32, 22).round(6))


def aiq(networks: Mapping[str, tuple[float, float]]) -> Figure | None:
    """Draw the artificial intelligence quotient against the weight of accuracy.

    Parameters
    ----------
    networks : mapping of str to (float, float)
        Network efficiency and accuracy of each network, both 0 to 1, by its name.

    Returns
    -------
    Figure or None
        None if there is no network.

    Raises
    ------
    ValueError
        If a number is not within 0 to 1.

    References
    ----------
    N. Schaub and N. Hotaling, Appl. Sci. 2023, 13(18), 10286.
    """
    if not networks:
        return None
    table = aIQ_by_weight(networks, WEIGHTS).reset_index()
    data = pd.DataFrame(
        {
            "network": table["network"],
            "weight of accuracy": table["weight"],
            "aIQ (%)": 100 * table["aIQ"],
            "network efficiency (%)": 100 * table["efficiency"],
            "accuracy (%)": 100 * table["accuracy"],
        }
    )
    plot = new_plot(
        "weight of accuracy (beta)",
        "aIQ (%)",
        x_axis_type="log",
        y_range=(0, 104),
        height=340,
        tooltips=[
            ("network", "@network"),
            ("weight", "@{weight of accuracy}{0.[00]}"),
            ("aIQ", "@{aIQ (%)}{0.0} %"),
            ("network efficiency", "@{network efficiency (%)}{0.00} %"),
            ("accuracy", "@{accuracy (%)}{0.00} %"),
        ],
    )
    for number, name in enumerate(networks):
        source = source_of(data[data["network"] == name])
        add_series(plot, "weight of accuracy", "aIQ (%)", source, number, name, size=7)
    plot.xaxis.ticker = [0.25, 0.5, 1, 2, 4, 8, 16, 32]
    if len(networks) == 1:
        for limit, dash in (("accuracy (%)", "dashed"), ("network efficiency (%)", "dotted")):
            plot.line(
                "weight of accuracy",
                limit,
                source=source,
                color=QUIET,
                line_dash=dash,
                legend_label=limit.removesuffix(" (%)"),
            )
    add_legend(plot)
    by_weight = table.pivot(index="weight", columns="network", values="aIQ")
    best = {weight: str(by_weight.loc[weight].idxmax()) for weight in (WEIGHTS[0], WEIGHTS[-1])}
    name, (efficiency, accuracy) = next(iter(networks.items()))
    at_two = {name: aIQ(*numbers, 2) for name, numbers in networks.items()}
    if len(networks) == 1:
        title = (
            f"aIQ is {percent(at_two[name])} at weight 2, between a network efficiency of "
            f"{percent(efficiency)} and an accuracy of {percent(accuracy)}"
        )
    elif len(set(best.values())) == 1:
        title = f"{shortened(best[WEIGHTS[0]])} has the highest aIQ at low and at high weights"
    else:
        title = (
            f"{shortened(best[WEIGHTS[0]])} is ahead where efficiency counts more, "
            f"{shortened(best[WEIGHTS[-1]])} where accuracy does"
        )
    numbers = "; ".join(
        f"{shortened(name)}: network efficiency {percent(e)}, accuracy {percent(a)}, aIQ at weight "
        f"2 {percent(at_two[name])}"
        for name, (e, a) in networks.items()
    )
    return Figure(
        "aiq",
        title,
        plot,
        data,
        f"Line of the aIQ against the weight of accuracy, for each network. {numbers}.",
        "The aIQ is a weighted geometric mean of network efficiency and accuracy: near the "
        "efficiency for small weights, near the accuracy for large ones. The papers call the "
        "weight beta. Of two networks, the better one may depend on it.",
        "An aIQ is as good as the efficiencies in it: layers that are limited by their sample "
        "make it too low. Compare networks that saw the same instances.",
    )
