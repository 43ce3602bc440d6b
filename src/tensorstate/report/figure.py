"""What a figure is: a plot with the words and numbers that go with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from bokeh.plotting import figure

__all__ = ["Figure"]


@dataclass(frozen=True)
class Figure:
    """A plot, the numbers that it draws, and what to make of it.

    Texts may hold names of layers and labels as they were stored: whoever shows them must escape
    them. Nothing in a plot needs a script of its own: a page may forbid all scripts but Bokeh's.

    Attributes
    ----------
    name : str
        What it is called among the figures of the same thing: letters and underscores.
    title : str
        Says what to see.
    plot : bokeh.plotting.figure
        As wide as there is room; without a title. `tensorstate.report.colours` has its colours.
    data : pandas.DataFrame
        The numbers that are drawn; columns are named with their units.
    alternative : str
        Says in words what is drawn, with the main numbers, to who cannot see it.
    meaning : str
        What it means.
    doubt : str
        When not to trust it.
    """

    name: str
    title: str
    plot: figure
    data: pd.DataFrame
    alternative: str
    meaning: str
    doubt: str

    def titled(self) -> figure:
        """Return the plot with its title above it, to be shown by itself."""
        from tensorstate.report.drawing import add_title

        return add_title(self.plot, self.title)
