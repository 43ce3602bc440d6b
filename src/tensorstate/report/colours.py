"""The colours of figures, on light and on dark ground."""

from __future__ import annotations

from typing import Literal

__all__ = ["MARKERS", "PALETTE", "QUIET", "css_variables", "fading"]

# After the colours that M. Okabe and K. Ito chose for all kinds of colour vision ("Color Universal
# Design", 2008), brought to a contrast of at least 3 to 1 with white as well as with #14181d.
PALETTE = ("#2b83c6", "#d55e00", "#12956f", "#b86a9c", "#8f7a0a", "#7d7d7d")
"""Colours of series, in order."""

MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "plus")
"""Markers of series: what colours say is never said by them alone."""

QUIET = "#7d7d7d"
"""Colour of what is there for comparison."""

_TEXT = {"light": "#24292f", "dark": "#e3e8ee"}
_LINES = {"light": "#6b737c", "dark": "#8d97a3"}
_GRID = {"light": "#e3e6ea", "dark": "#333a43"}


def fading(colour: str, steps: int = 11) -> list[str]:
    """Return colours from one that lets the ground through to an opaque one, as #rrggbbaa.

    Examples
    --------
    >>> fading("#2b83c6", 3)
    ['#2b83c61f', '#2b83c68f', '#2b83c6ff']
    """
    least, most = 0x1F, 0xFF
    return [f"{colour}{least + (most - least) * step // (steps - 1):02x}" for step in range(steps)]


def css_variables(scheme: Literal["light", "dark"]) -> str:
    """Return declarations of CSS variables that bring plots into a colour scheme.

    Bokeh looks them up whenever it paints: after they have changed, plots have to be painted
    anew. Plots get the ground of what they lie on.

    Parameters
    ----------
    scheme : {"light", "dark"}

    Returns
    -------
    str
        To be put between the braces of a rule for any element around the plots.

    Examples
    --------
    >>> "--bk-axis-label-text-color:#24292f;" in css_variables("light")
    True
    """
    text, lines, grid = _TEXT[scheme], _LINES[scheme], _GRID[scheme]
    values = {
        "text-color": text,
        "axis-label-text-color": text,
        "major-label-text-color": text,
        "axis-line-color": lines,
        "major-tick-line-color": lines,
        "minor-tick-line-color": "transparent",
        "grid-line-color": grid,
        "outline-line-color": "transparent",
        "border-line-color": "transparent",
        "background-fill-color": "transparent",
        "border-fill-color": "transparent",
    }
    return "".join(f"--bk-{name}:{value};" for name, value in values.items())
