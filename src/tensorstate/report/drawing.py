"""What all plots have in common: axes, tooltips, and names that anybody may have chosen."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorstate.report.colours import MARKERS, PALETTE

if TYPE_CHECKING:
    import pandas as pd
    from bokeh.models import BaseText, ColumnDataSource
    from bokeh.plotting import figure

__all__ = [
    "MOST_NAMES",
    "MOST_POINTS",
    "add_bars",
    "add_legend",
    "add_series",
    "add_title",
    "breakable",
    "log_spaced",
    "named_ticks",
    "new_plot",
    "percent",
    "plural",
    "shortened",
    "source_of",
    "text",
]

MOST_POINTS = 200
"""A plot has about so many points at most: what a screen shows, and a page of many layers holds."""

MOST_NAMES = 24
"""An axis names no more things, and numbers them if there are."""

_TICK_LENGTH = 18

_WORD_LENGTH = 12


def new_plot(
    x_label: str,
    y_label: str,
    *,
    tooltips: Sequence[tuple[str, str]] = (),
    height: int = 300,
    **options: Any,
) -> figure:
    """Return an empty plot that is as wide as there is room.

    Parameters
    ----------
    x_label, y_label : str
        What the axes show, with units.
    tooltips : sequence of (str, str)
        What a pointer shows: names, and columns of the data, whose values are escaped. Add the
        renderers that have them to ``plot.hover.renderers``.
    height : int
        In pixels.
    **options
        Of `bokeh.plotting.figure`.

    Raises
    ------
    ImportError
        If Bokeh is missing.
    """
    try:
        from bokeh.models import HoverTool
        from bokeh.plotting import figure
    except ImportError as error:
        raise ImportError("figures need Bokeh: pip install tensorstate[report]") from error
    hover = HoverTool(tooltips=list(tooltips), renderers=[]) if tooltips else None
    plot = figure(
        x_axis_label=x_label,
        y_axis_label=y_label,
        height=height,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools=[hover] if hover else [],
        **options,
    )
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.minor_tick_line_color = None
    plot.outline_line_color = None
    return plot


def add_title(plot: figure, title: str) -> figure:
    """Put a title above a plot, in lines of a length that a notebook shows."""
    from bokeh.models import PlainText, Title

    plot.title = Title(text=PlainText(text=textwrap.fill(title, 90)))
    return plot


def add_legend(plot: figure) -> None:
    """Put the legend above a plot, in the colours of what is around it."""
    legend = plot.legend[0]
    legend.background_fill_alpha = 0
    legend.border_line_color = None
    legend.margin = legend.padding = 0
    # What it says is text of the page, and not of the canvas.
    legend.stylesheets = [".bk-label { color: var(--bk-text-color, #444444) !important; }"]
    legend.location = "top_left"
    plot.add_layout(legend, "above")


def add_series(
    plot: figure, x: str, y: str, source: ColumnDataSource, number: int, name: str, size: int = 9
) -> None:
    """Draw a line with markers, in the colour of a series; a pointer shows what is at a marker.

    Parameters
    ----------
    plot : bokeh.plotting.figure
        From `new_plot`, with tooltips.
    x, y : str
        Columns of the source.
    source : bokeh.models.ColumnDataSource
        The numbers.
    number : int
        Of the series, from 0 on: it tells colour and marker.
    name : str
        What the legend calls it.
    size : int
        Of the markers.
    """
    options: dict[str, Any] = {
        "source": source,
        "color": PALETTE[number % len(PALETTE)],
        "legend_label": shortened(name, 30),
    }
    plot.line(x, y, **options)
    dots = plot.scatter(x, y, size=size, marker=MARKERS[number % len(MARKERS)], **options)
    plot.hover.renderers = [*plot.hover.renderers, dots]


def add_bars(plot: figure, bars: str, dashes: str, data: pd.DataFrame, names: list[str]) -> None:
    """Draw a bar for each layer, with a dash beside it; a pointer shows what is at either.

    Parameters
    ----------
    plot : bokeh.plotting.figure
        From `new_plot`, with tooltips.
    bars, dashes : str
        Columns of the data.
    data : pandas.DataFrame
        A row for each layer, with its place as `number`.
    names : list of str
        What the legend calls bars and dashes.
    """
    source = source_of(data)
    drawn = plot.vbar("number", 0.7, bars, source=source, color=PALETTE[0], legend_label=names[0])
    marks = plot.scatter(
        "number",
        dashes,
        source=source,
        marker="dash",
        size=16 if len(data) <= MOST_NAMES else 6,
        line_width=2,
        color=PALETTE[1],
        legend_label=names[1],
    )
    plot.hover.renderers = [drawn, marks]
    plot.xgrid.visible = False


def source_of(data: pd.DataFrame) -> ColumnDataSource:
    """Return the columns for Bokeh; as lists, which take less room on a page than arrays."""
    from bokeh.models import ColumnDataSource

    columns = {str(name): column.tolist() for name, column in data.items()}
    return ColumnDataSource(
        {
            name: [breakable(value) if isinstance(value, str) else value for value in values]
            for name, values in columns.items()
        }
    )


def breakable(words: str) -> str:
    """Return the same text with places where a tooltip may break long words.

    Examples
    --------
    >>> breakable("short words " + 30 * "x").split("\u200b")[1:]
    ['xxxxxxxxxxxx', 'xxxxxx']
    """
    return re.sub(rf"(\S{{{_WORD_LENGTH}}})(?=\S)", "\\1\u200b", words)


def named_ticks(
    axis: Any, names: Sequence[str], *, most: int = MOST_NAMES, slanted: bool = True
) -> None:
    """Let an axis show names at 1, 2, 3...; whole numbers if there are more than that.

    Names below a plot are slanted, so that they do not run into each other.
    """
    from bokeh.models import BasicTicker, FixedTicker

    if len(names) > most:
        axis.ticker = BasicTicker(min_interval=1)
        return
    axis.ticker = FixedTicker(ticks=[*range(1, len(names) + 1)])
    if slanted:
        axis.major_label_orientation = 0.8
    axis.major_label_overrides = {
        number: text(shortened(name, _TICK_LENGTH)) for number, name in enumerate(names, 1)
    }


def text(words: str) -> str | BaseText:
    """Return words for a plot that are never taken for a formula.

    Bokeh sets what is between two ``$$`` as TeX, and would load MathJax for it.
    """
    if not any(delimiter in words for delimiter in ("$$", r"\[", r"\(")):
        return words
    from bokeh.models import PlainText

    return PlainText(text=words)


def shortened(name: object, length: int = 40) -> str:
    """Return a name in one line, with its middle left out if it is longer than that.

    Examples
    --------
    >>> shortened("block_12_expand_relu_states", 17)
    'block_12…u_states'
    """
    words = " ".join(str(name).split())
    if len(words) <= length:
        return words
    return words[: length // 2] + "…" + words[len(words) - (length - length // 2 - 1) :]


def log_spaced(last: int, most: int = MOST_POINTS) -> NDArray[np.int64]:
    """Return whole numbers from 1 to `last`, evenly on a logarithmic axis: all, if they are few.

    Examples
    --------
    >>> log_spaced(5).tolist(), log_spaced(1000, 4).tolist()
    ([1, 2, 3, 4, 5], [1, 10, 100, 1000])
    """
    if last <= most:
        return np.arange(1, last + 1)
    spaced = np.rint(np.geomspace(1, last, most)).astype(np.int64)
    spaced[-1] = last
    return np.unique(spaced)


def percent(share: float) -> str:
    """Return a share as text in percent, to three digits.

    Examples
    --------
    >>> percent(0.21854), percent(1), percent(0.00012345)
    ('21.9 %', '100 %', '0.0123 %')
    """
    return f"{100 * share:.3g} %"


def plural(number: int, noun: str) -> str:
    """Return a number of things as text.

    Examples
    --------
    >>> plural(1, "layer"), plural(1234, "state")
    ('1 layer', '1,234 states')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
