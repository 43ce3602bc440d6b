"""Figures of efficiency, accuracy and size, in the style of the package's own report."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scripts.paper.effects import Interval, crossed, over_seeds, plain
from scripts.paper.finding import Finding
from scripts.paper.networks import ARCHITECTURES
from scripts.paper.table import networks_of
from tensorstate.report.colours import MARKERS, PALETTE, QUIET
from tensorstate.report.drawing import add_legend, new_plot, source_of
from tensorstate.report.figure import Figure

__all__ = ["accuracy_and_size", "drawn", "efficiency_by_width"]


def efficiency_by_width(table: pd.DataFrame, architecture: str, finding: Finding) -> Figure:
    """Draw the efficiency of each layer against its width, as observed and corrected."""
    title = ARCHITECTURES[architecture].title
    from bokeh.models import BasicTickFormatter

    rows = plain(table)
    rows = rows[(rows["architecture"] == architecture) & (rows["random_labels"] == 0)]
    rows = pd.concat([crossed(of_layer) for _, of_layer in rows.groupby("layer")])
    records = []
    for _, same in rows.groupby(["layer", "neurons"], sort=True):
        by_seed = same.groupby("seed")[["efficiency", "efficiency_corrected", "ceiling"]].mean()
        plug_in = over_seeds(by_seed["efficiency"])
        records.append(
            {
                "layer": same["layer"].iloc[0],
                "width": int(same["neurons"].iloc[0]),
                "efficiency (%)": 100 * plug_in.mean,
                "low (%)": 100 * max(drawn(plug_in).low, 0.0),
                "high (%)": 100 * min(drawn(plug_in).high, 1.0),
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
        look: dict[str, Any] = {"source": source_of(same), "color": PALETTE[number]}
        plot.segment("width", "low (%)", "width", "high (%)", **look)
        plot.line("width", "efficiency (%)", **look)
        plot.line("width", "corrected (%)", line_dash="dotted", line_width=2, **look)
        look.update(marker=MARKERS[number], legend_label=str(layer))
        marks = plot.scatter("width", "efficiency (%)", size=8, **look)
        ceiling = {"marker": "dash", "color": QUIET, "legend_label": "ceiling of the sample"}
        plot.scatter(
            "width", "ceiling (%)", source=look["source"], size=16, line_width=2, **ceiling
        )
        plot.hover.renderers.append(marks)
    plot.xaxis.ticker = sorted(data["width"].unique().tolist())
    plot.xaxis.formatter = BasicTickFormatter()
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
        "A dash is as high as the number of captured states allows. A mark that touches its dash "
        "shows the number of digits and not the layer, and there the dotted line is too low.",
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
        look: dict[str, Any] = {
            "source": source_of(same),
            "color": PALETTE[number],
            "marker": MARKERS[number],
            "size": 8,
        }
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


def _peaks_apart(data: pd.DataFrame) -> bool:
    each = (same for _, same in data.groupby("network"))
    return all(same["accuracy (%)"].idxmax() != same["aIQ (%)"].idxmax() for same in each)


def drawn(found: Interval) -> Interval:
    """Return an interval that can be drawn: one seed has no bounds."""
    return found if found.seeds > 1 else Interval(found.mean, found.mean, found.mean, found.seeds)
