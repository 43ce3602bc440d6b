"""The figures of the page, in the style of the package's own report."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scripts.paper.effects import Interval, crossed, over_seeds, plain
from scripts.paper.finding import Finding, titles
from scripts.paper.networks import ARCHITECTURES
from scripts.paper.table import networks_of
from tensorstate.report.colours import MARKERS, PALETTE, QUIET
from tensorstate.report.drawing import add_legend, named_ticks, new_plot, source_of
from tensorstate.report.figure import Figure

__all__ = ["accuracy_and_size", "effect_sizes", "efficiency_by_width", "random_labels"]


def efficiency_by_width(table: pd.DataFrame, architecture: str, finding: Finding) -> Figure:
    """Draw the efficiency of each layer against its width, as observed and corrected."""
    title = ARCHITECTURES[architecture].title
    rows = plain(table)
    rows = rows[(rows["architecture"] == architecture) & (rows["random_labels"] == 0)]
    rows = pd.concat([crossed(of_layer) for _, of_layer in rows.groupby("layer")])
    records = []
    for (layer, width), same in rows.groupby(["layer", "neurons"], sort=True):
        by_seed = same.groupby("seed")[["efficiency", "efficiency_corrected", "ceiling"]].mean()
        plug_in = over_seeds(by_seed["efficiency"])
        records.append(
            {
                "layer": str(layer),
                "width": int(width),
                "efficiency (%)": 100 * plug_in.mean,
                "low (%)": 100 * _bounded(plug_in.low),
                "high (%)": 100 * _bounded(plug_in.high),
                "corrected (%)": 100 * by_seed["efficiency_corrected"].mean(),
                "ceiling (%)": 100 * by_seed["ceiling"].mean(),
            }
        )
    data = pd.DataFrame(records)
    plot = new_plot(
        "width: neurons of the layer",
        "efficiency (%)",
        x_axis_type="log",
        y_range=(0, 104),
        height=360,
        tooltips=[
            ("layer", "@layer"),
            ("neurons", "@width"),
            ("efficiency", "@{efficiency (%)}{0.0} %"),
            ("95 % interval", "@{low (%)}{0.0} to @{high (%)}{0.0} %"),
            ("corrected", "@{corrected (%)}{0.0} %"),
            ("ceiling of the sample", "@{ceiling (%)}{0.0} %"),
        ],
    )
    for number, (layer, same) in enumerate(data.groupby("layer")):
        look = {"source": source_of(same), "color": PALETTE[number]}
        plot.segment("width", "low (%)", "width", "high (%)", **look)
        plot.line("width", "efficiency (%)", legend_label=f"{layer}", **look)
        plot.line("width", "corrected (%)", line_dash="dotted", line_width=2, **look)
        marks = plot.scatter("width", "efficiency (%)", size=8, marker=MARKERS[number], **look)
        plot.hover.renderers.append(marks)
    lowest = data[data["ceiling (%)"] < 100].sort_values("width").drop_duplicates("width")
    if len(lowest):
        plot.line(
            "width",
            "ceiling (%)",
            source=source_of(lowest),
            color=QUIET,
            line_dash="dashed",
            legend_label="ceiling of the sample",
        )
    plot.xaxis.ticker = sorted(data["width"].unique().tolist())
    add_legend(plot)
    effects = [e for e in finding.effects if e.of.startswith(title) and e.estimator == "plug-in"]
    told = "; ".join(f"{e.of.removeprefix(title).strip()} {e.told}" for e in effects)
    falls = sum(effect.verdict == "holds" for effect in effects)
    return Figure(
        f"width_{architecture}",
        f"{title}: efficiency falls with the width in {falls} of {len(effects)} layers",
        plot,
        data,
        f"Lines of efficiency against width for each layer. Points for each doubling: {told}.",
        "Solid: as observed, with the 95 % interval over seeds. Dotted: by an estimate that allows "
        "for states that were not seen. Each point is a mean over networks whose other layers have "
        f"all widths of the grid. Points of efficiency for each doubling of the width: {told}.",
        "Where a line touches the dashed one, which is as high as the number of captured states "
        "allows, it shows the number of digits and not the layer; there the dotted one is too low.",
    )


def accuracy_and_size(table: pd.DataFrame, finding: Finding) -> Figure:
    """Draw accuracy and aIQ of all networks with true labels against their parameters."""
    networks = networks_of(table)
    networks = networks[networks["random_labels"] == 0]
    means = networks.groupby(
        ["architecture", "widths", "batch_norm", "dropout"], sort=False, as_index=False
    )[["parameters", "test_accuracy", "network_efficiency", "aIQ"]].mean()
    data = pd.DataFrame(
        {
            "network": [ARCHITECTURES[name].title for name in means["architecture"]],
            "widths": means["widths"],
            "batch normalisation": means["batch_norm"].map({True: "yes", False: "no"}),
            "dropout": means["dropout"].map({True: "yes", False: "no"}),
            "parameters": means["parameters"],
            "accuracy (%)": 100 * means["test_accuracy"],
            "network efficiency (%)": 100 * means["network_efficiency"],
            "aIQ (%)": 100 * means["aIQ"],
        }
    )
    plot = new_plot(
        "parameters",
        "accuracy or aIQ (%)",
        x_axis_type="log",
        y_range=(0, 104),
        height=360,
        tooltips=[
            ("network", "@network @widths"),
            ("batch normalisation, dropout", "@{batch normalisation}, @dropout"),
            ("parameters", "@parameters{0,0}"),
            ("accuracy", "@{accuracy (%)}{0.0} %"),
            ("network efficiency", "@{network efficiency (%)}{0.0} %"),
            ("aIQ", "@{aIQ (%)}{0.0} %"),
        ],
    )
    for number, (name, same) in enumerate(data.groupby("network")):
        look = {"size": 8, "source": source_of(same), "color": PALETTE[number]}
        look["marker"] = MARKERS[number]
        for column, options in (
            ("accuracy (%)", {"fill_alpha": 0.0}),
            ("aIQ (%)", {"fill_alpha": 1.0}),
        ):
            marks = plot.scatter(
                "parameters",
                column,
                legend_label=f"{name}: {column.removesuffix(' (%)')}",
                **look,
                **options,
            )
            plot.hover.renderers.append(marks)
    add_legend(plot)
    effects = [effect for effect in finding.effects if effect.estimator == "plug-in"]
    told = "; ".join(f"{effect.of}: {effect.told} {effect.what}" for effect in effects)
    return Figure(
        "size",
        "Accuracy rises with the number of parameters, and aIQ has its highest point elsewhere"
        if _peaks_apart(data)
        else "Accuracy and aIQ have their highest points in the same networks",
        plot,
        data,
        f"Points of accuracy and of aIQ against the number of parameters. {told}.",
        "Each network has a hollow mark for its accuracy on the test digits and a filled one for "
        f"its aIQ with weight 2, both means over seeds. Of the highest aIQ against the highest "
        f"accuracy: {told}.",
        "The highest accuracy of many networks on the same test digits is partly luck, and so is "
        "the size of the network that has it.",
    )


def effect_sizes(finding: Finding) -> Figure:
    """Draw the effects of a claim with their intervals, as observed and corrected."""
    effects = [effect for effect in finding.effects if effect.unit == "points"]
    names = list(dict.fromkeys(_short(f"{effect.of} {effect.what}") for effect in effects))
    records = []
    for effect in effects:
        found: Interval = effect.found
        name = _short(f"{effect.of} {effect.what}")
        records.append(
            {
                "effect": name,
                "estimator": effect.estimator,
                "number": names.index(name)
                + 1
                + (0.15 if effect.estimator == "plug-in" else -0.15),
                "points": 100 * found.mean,
                "low": 100 * found.low if found.seeds > 1 else 100 * found.mean,
                "high": 100 * found.high if found.seeds > 1 else 100 * found.mean,
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
        look: dict[str, Any] = {"source": source_of(same), "color": PALETTE[number]}
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
            look: dict[str, Any] = {
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


def _peaks_apart(data: pd.DataFrame) -> bool:
    each = (same for _, same in data.groupby("network"))
    return all(same["accuracy (%)"].idxmax() != same["aIQ (%)"].idxmax() for same in each)


def _short(name: str) -> str:
    return name.replace("points of network efficiency by ", "").replace("batch normalisation", "BN")


def _bounded(share: float) -> float:
    return min(max(share, 0.0), 1.0)
