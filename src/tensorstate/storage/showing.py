"""How runs and layers show themselves: as a plot, as a table of a notebook, as a labelled array.

What draws them is above them in the house, and is asked only when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import xarray
    from bokeh.plotting import figure

    from tensorstate.report.plotting import LayerFigure, RunFigure
    from tensorstate.storage.layer import LayerStates
    from tensorstate.storage.run import StateRun

__all__ = ["ShownLayer", "ShownRun"]


class ShownLayer:
    """The part of `LayerStates` that shows it."""

    def plot(self, name: LayerFigure = "rank_frequency") -> figure:
        """Draw a figure of the layer, which is counted if it is not yet.

        Parameters
        ----------
        name : str
            "rank_frequency": how often each state was seen; "spectrum": how many states were seen
            once, twice, and so on; "rarefaction": the efficiency with fewer instances;
            "firing_rates" of the neurons; "most_frequent_states" as patterns; or "label_overlap":
            how far the states of labels are from each other (`StateRun.set_labels`). The third,
            fourth and last one look at instances with about a million states, if there are more.

        Returns
        -------
        bokeh.plotting.figure
            To be shown with ``bokeh.io.show``.

        Raises
        ------
        ImportError
            If Bokeh is missing: ``pip install tensorstate[report]``.
        ValueError
            If there is no such figure, or the layer lacks what it needs.
        DamagedChunkError
            As for `histogram`.

        Examples
        --------
        >>> import tensorstate as ts
        >>> layer = ts.StateRecorder("layer")
        >>> layer.record([[1.0, -1.0], [1.0, 2.0], [1.0, -1.0]])
        >>> layer.plot("spectrum").title.text.text
        '50 % of the 2 distinct states were seen only once'
        """
        from tensorstate.report.plotting import plot_layer

        return plot_layer(cast("LayerStates", self), name)

    def to_xarray(self) -> xarray.DataArray:
        """Return the packed states as a labelled array, over a Dask array that reads them lazily.

        Returns
        -------
        xarray.DataArray of uint8, (instance, position, byte) or (row, byte)
            With the numbers of instances, positions and bytes as coordinates, and `neurons`,
            `threshold` and the order of bits as attributes. Chunks are those of the store, as far
            as whole instances allow. Where instances differ in their number of positions, rows
            follow each other, and the coordinate `instance` tells to which each belongs.

        Raises
        ------
        ImportError
            If xarray is missing: ``pip install tensorstate[xarray]``.
        ValueError
            If no states were recorded, or the layer was captured with ``histogram="live"``.

        Examples
        --------
        >>> import numpy as np
        >>> import tensorstate as ts
        >>> layer = ts.StateRecorder("layer")
        >>> layer.record(np.ones((3, 4, 20)))
        >>> states = layer.to_xarray()
        >>> dict(states.sizes), states.attrs["neurons"]
        ({'instance': 3, 'position': 4, 'byte': 3}, 20)
        >>> states.sel(instance=2, position=0).values.tolist()
        [255, 255, 15]
        """
        from tensorstate.storage.labelled import labelled_states

        return labelled_states(cast("LayerStates", self))

    def _repr_html_(self) -> str:
        from tensorstate.report.notebook import layer_html

        return layer_html(cast("LayerStates", self))


class ShownRun:
    """The part of `StateRun` that shows it."""

    def plot(self, name: RunFigure = "efficiency", *, accuracy: float | None = None) -> figure:
        """Draw a figure of all layers, which are counted if they are not yet.

        Parameters
        ----------
        name : str
            "efficiency" of each layer; "aiq" against the weight of accuracy; or
            "label_information": what a state of each layer tells about the label
            (`StateRun.set_labels`).
        accuracy : float, optional
            Of the network, 0 to 1: for "aiq".

        Returns
        -------
        bokeh.plotting.figure
            To be shown with ``bokeh.io.show``.

        Raises
        ------
        ImportError
            If Bokeh is missing: ``pip install tensorstate[report]``.
        ValueError
            If there is no such figure, or the run lacks what it needs.
        DamagedChunkError
            As for `LayerStates.histogram`.
        """
        from tensorstate.report.plotting import plot_run

        return plot_run(cast("StateRun", self), name, accuracy)

    def _repr_html_(self) -> str:
        from tensorstate.report.notebook import run_html

        return run_html(cast("StateRun", self))
