"""Figures of how networks were trained: with what, and with which labels."""

from __future__ import annotations

import pandas as pd

from scripts.paper.effects import plain
from scripts.paper.figures import drawn
from scripts.paper.finding import Finding, titles
from scripts.paper.networks import ARCHITECTURES
from scripts.paper.table import networks_of
from tensorstate.report.colours import MARKERS, PALETTE, QUIET
from tensorstate.report.drawing import add_legend, named_ticks, new_plot, source_of
from tensorstate.report.figure import Figure

__all__ = ["effect_sizes", "random_labels"]


def effect_sizes(finding: Finding) -> Figure:
    """Draw the effects of a claim with their intervals, as observed and corrected."""
    effects = [effect for effect in finding.effects if effect.unit == "points"]
    names = list(dict.fromkeys(_short(f"{effect.of} {effect.what}") for effect in effects))
    records = []
    for effect in effects:
        found = drawn(effect.found)
        name = _short(f"{effect.of} {effect.what}")
        records.append(
            {
                "effect": name,
                "estimator": effect.estimator,
                "number": names.index(name)
                + 1
                + (0.15 if effect.estimator == "plug-in" else -0.15),
                "points": 100 * found.mean,
                "low": 100 * found.low,
                "high": 100 * found.high,
                "told": effect.told,
            }
        )
    data = pd.DataFrame(records)
    plot = new_plot(
        "points of network efficiency",
        "",
        height=120 + 60 * len(names),
        y_range=(0.4, len(names) + 0.6),
        tooltips=[("effect", "@effect"), ("estimator", "@estimator"), ("points", "@told")],
    )
    plot.line([0, 0], [0.4, len(names) + 0.6], color=QUIET, line_dash="dashed")
    for number, (estimator, same) in enumerate(data.groupby("estimator", sort=False)):
        look = {"source": source_of(same), "color": PALETTE[number]}
        plot.segment("low", "number", "high", "number", line_width=2, **look)
        marks = plot.scatter(
            "points", "number", size=9, marker=MARKERS[number], legend_label=str(estimator), **look
        )
        plot.hover.renderers.append(marks)
    named_ticks(plot.yaxis, names, slanted=False)
    plot.ygrid.visible = False
    add_legend(plot)
    told = "; ".join(f"{row['effect']}, {row['estimator']}: {row['told']}" for row in records)
    raised = sum(effect.verdict == "holds" for effect in effects)
    return Figure(
        "training",
        f"{raised} of {len(effects)} effects on network efficiency lie above 0",
        plot,
        data,
        f"Marks with intervals. {told}.",
        "Differences of network efficiency with and without, between networks that differ in "
        f"nothing else, and their 95 % intervals over seeds. {told}.",
        "Layers are captured before their normalisation: what it does to a layer shows in the "
        "next one.",
    )


def random_labels(table: pd.DataFrame, column: str, says: str, doubt: str) -> Figure | None:
    """Draw a column against the share of random labels, for each network; None without any."""
    networks = plain(networks_of(table))
    tried = networks[networks["random_labels"] > 0]
    if tried.empty:
        return None
    keys = set(zip(tried["architecture"], tried["widths"], strict=True))
    is_there = [
        one in keys for one in zip(networks["architecture"], networks["widths"], strict=True)
    ]
    networks = networks[is_there]
    means = networks.groupby(["architecture", "widths", "random_labels"], as_index=False)[
        [column, "parameters", "aIQ"]
    ].mean()
    means = means.dropna(subset=[column])
    data = pd.DataFrame(
        {
            "network": [ARCHITECTURES[name].title for name in means["architecture"]],
            "widths": means["widths"],
            "parameters": means["parameters"],
            "random labels (%)": means["random_labels"],
            f"{says} (%)": 100 * means[column],
        }
    ).sort_values(["network", "parameters", "random labels (%)"])
    plot = new_plot(
        "random labels (%)",
        f"{says} (%)",
        height=360,
        y_range=(0, 104),
        tooltips=[
            ("network", "@network @widths"),
            ("parameters", "@parameters{0,0}"),
            ("random labels", "@{random labels (%)} %"),
            (says, f"@{{{says} (%)}}{{0.0}} %"),
        ],
    )
    last = data["random labels (%)"].max()
    told = []
    for number, (_, title) in enumerate(titles(table)):
        of_title = data[data["network"] == title]
        each = list(of_title.groupby("widths", sort=False))
        for size, (widths, same) in enumerate(each):
            look = {
                "source": source_of(same),
                "color": PALETTE[number],
                # The larger a network, the thicker its line.
                "line_width": 1 + size,
                "legend_label": title,
            }
            plot.line("random labels (%)", f"{says} (%)", **look)
            look.pop("line_width")
            marks = plot.scatter(
                "random labels (%)", f"{says} (%)", size=7, marker=MARKERS[number], **look
            )
            plot.hover.renderers.append(marks)
            value = same.loc[same["random labels (%)"] == last, f"{says} (%)"].iloc[0]
            told.append(f"{title} {widths} {value:.1f} %")
    add_legend(plot)
    return Figure(
        f"random_{column}",
        f"{says[0].upper()}{says[1:]}, by the share of random labels",
        plot,
        data,
        f"Lines for each network. At {last} % random labels: {'; '.join(told)}.",
        f"Means over seeds; the larger a network, the thicker its line. At {last} % random labels: "
        f"{'; '.join(told)}.",
        doubt,
    )


def _short(name: str) -> str:
    return name.replace("points of network efficiency by ", "").replace("batch normalisation", "BN")
