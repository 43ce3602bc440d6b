"""How histograms show themselves: as a plot, and as a table of a notebook.

What draws them is above them in the house, and is asked only when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from bokeh.plotting import figure

    from tensorstate.counting.histogram import StateHistogram
    from tensorstate.report.plotting import HistogramFigure

__all__ = ["ShownHistogram"]


class ShownHistogram:
    """The part of `StateHistogram` that shows it."""

    def plot(self, name: HistogramFigure = "rank_frequency") -> figure:
        """Draw a figure of the histogram, from its spectrum.

        Parameters
        ----------
        name : {"rank_frequency", "spectrum"}
            How often each state was seen; or how many states were seen once, twice, and so on.

        Returns
        -------
        bokeh.plotting.figure
            To be shown with ``bokeh.io.show``.

        Raises
        ------
        ImportError
            If Bokeh is missing: ``pip install tensorstate[report]``.
        ValueError
            If there is no such figure, or no state was counted.
        """
        from tensorstate.report.plotting import plot_histogram

        return plot_histogram(cast("StateHistogram", self), name)

    def _repr_html_(self) -> str:
        from tensorstate.report.notebook import histogram_html

        return histogram_html(cast("StateHistogram", self))
