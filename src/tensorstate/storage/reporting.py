"""A run as a page."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

from tensorstate.counting.memory import MemoryLimit

if TYPE_CHECKING:
    from tensorstate.report.page import Report
    from tensorstate.storage.run import StateRun

__all__ = ["Reported"]


class Reported:
    """The part of `StateRun` that makes a page of it."""

    def report(
        self,
        path: str | PathLike[str] | None = None,
        *,
        accuracy: float | Sequence[float] | None = None,
        compare: StateRun | Sequence[StateRun] = (),
        title: str | None = None,
        memory_limit: MemoryLimit = None,
    ) -> Report:
        """Make a page of the run: one HTML file that explains itself and loads nothing.

        What is not counted yet is counted. In a notebook the page shows as the value of a cell.

        Parameters
        ----------
        path : path, optional
            Where to write the page, in place of an older one.
        accuracy : float or sequence of float, optional
            Of the network, 0 to 1, for its aIQ; with other runs, one for each, this one first.
        compare : StateRun or sequence of StateRun, optional
            Other runs, to be shown beside this one.
        title : str, optional
            Of the page; by default it names the models.
        memory_limit : optional
            What each count may take, as for `LayerStates.histogram`.

        Returns
        -------
        Report
            Its `html` is the page, `numbers` has what it shows, and `save` writes it to a file.

        Raises
        ------
        ImportError
            If Bokeh or Jinja2 is missing: ``pip install tensorstate[report]``.
        ValueError
            If there is not one accuracy for each run, within 0 to 1; or as for
            `LayerStates.histogram`.
        FileExistsError
            If there is a file at the path that is no report.
        OSError
            If nothing can be written there.
        DamagedChunkError
            If something that has to be read is missing or damaged.

        Examples
        --------
        >>> import tensorstate as ts
        >>> with ts.StateRecorder("layer", "run.zarr") as layer:
        ...     layer.record([[1.0, -1.0], [1.0, 2.0], [1.0, -1.0]])
        >>> report = ts.open_run("run.zarr").report("report.html", accuracy=0.9)
        >>> report.numbers[0]["accuracy"], report.html.startswith("<!doctype html>")
        (0.9, True)
        """
        # What makes pages is above, and is asked only when it is used.
        from tensorstate.report.page import check_free, make_report, named_runs

        if path is not None:
            check_free(path)  # before anything is counted
        others: Sequence[Any] = [compare] if isinstance(compare, Reported) else [*compare]
        runs = named_runs([cast("StateRun", self), *others])
        if accuracy is None:
            accuracies: Sequence[float] = ()
        else:
            accuracies = accuracy if isinstance(accuracy, Sequence) else [accuracy]
        page = make_report(runs, accuracies, title=title, memory_limit=memory_limit)
        if path is not None:
            page.save(path)
        return page
