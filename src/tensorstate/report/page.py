"""One or several runs as a page: a single HTML file that loads nothing."""

from __future__ import annotations

import html
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import dask

from tensorstate.counting.memory import MemoryLimit
from tensorstate.counting.progress import Work, show_progress, telling
from tensorstate.report.overview import WORDS, Overview, overview
from tensorstate.report.samples import release
from tensorstate.storage import StateRun

try:
    from tensorstate.report.chapters import layer_chapters, network_figures_of
    from tensorstate.report.embedding import page_file
    from tensorstate.report.rendering import render
except ModuleNotFoundError as error:
    raise ImportError(f"a report needs {error.name}: pip install tensorstate[report]") from error

__all__ = ["Report", "check_accuracies", "check_free", "make_report", "named_runs"]

_MARK = b'<meta name="generator" content="tensorstate '
"""What tells a report of tensorstate from other files, within its first bytes."""

_WITHIN = 4096


@dataclass(frozen=True)
class Report:
    """One or several runs as a page.

    Attributes
    ----------
    title : str
        Of the page.
    html : str
        The whole page.
    numbers : list of dict
        What it says of each run, as JSON types: `run`, `model`, `instances`, `accuracy`,
        `network_efficiency`, `aIQ` (for the weight 2) and the `layers`, with the columns of
        `StateRun.summary`. What is not known is None.
    """

    title: str
    html: str = field(repr=False)
    numbers: list[dict[str, Any]] = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, in place of an older report.

        Parameters
        ----------
        path : path
            Where to. Whoever reads there meanwhile sees the older page or this one, whole.

        Returns
        -------
        Path

        Raises
        ------
        FileExistsError
            If something else than a report is there.
        OSError
            If nothing can be written there.
        """
        path = Path(path)
        check_free(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(self.html)
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return path

    def _repr_html_(self) -> str:
        # A page of its own within that of the notebook: neither can touch the other.
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" title="{html.escape(self.title)}" '
            'sandbox="allow-scripts allow-downloads" style="width:100%;height:800px;border:0">'
            "</iframe>"
        )


def make_report(
    runs: Mapping[str, StateRun],
    accuracies: Sequence[float] = (),
    *,
    title: str | None = None,
    memory_limit: MemoryLimit = None,
) -> Report:
    """Make a page of one or several runs, side by side.

    What is not counted yet is counted. Figures are made from counts and samples: what is in memory
    does not grow with the number of states.

    Parameters
    ----------
    runs : mapping of str to StateRun
        By the names that they have on the page.
    accuracies : sequence of float, optional
        Of the networks, 0 to 1: one for each run, or none.
    title : str, optional
        Of the page; by default it names the models.
    memory_limit : optional
        What each count may take, as for `LayerStates.histogram`.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If there is no run, or not one accuracy for each, within 0 to 1; or as for
        `LayerStates.histogram`.
    DamagedChunkError
        If something that has to be read is missing or damaged.
    """
    if not runs:
        raise ValueError("a report needs at least one run")
    check_accuracies(accuracies, len(runs))
    known = dict(zip(runs, map(float, accuracies), strict=False))
    names = list(dict.fromkeys(name for run in runs.values() for name in run))
    anchors = {name: f"layer-{number}" for number, name in enumerate(names)}
    with dask.config.set(
        {} if memory_limit is None else {"tensorstate.memory-limit": memory_limit}
    ):
        for layer in (layer for run in runs.values() for layer in run.values()):
            if layer.state_count:
                layer.spectrum()
                release(layer)
        drawing = Work("drawing", "steps", sum(map(len, runs.values())) + len(names))
        # What is counted on the way shows no progress of its own.
        with show_progress(drawing) as advance, telling("", progress=False):
            overviews = []
            for name, run in runs.items():
                overviews.append(overview(name, run, known.get(name), anchors))
                advance(len(run))
            network = network_figures_of(runs, _networks(overviews))
            chapters = []
            for chapter in layer_chapters(runs, anchors):
                chapters.append(chapter)
                advance(1)
    title = title or _title(runs)
    page = render(
        page_file("page.html.j2"),
        title=title,
        runs=overviews,
        network=network,
        layers=chapters,
        payloads=[one for one in (network, *(layer.figures for layer in chapters)) if one],
        has_accuracy=bool(known),
        words=WORDS,
    )
    return Report(title, page, [one.numbers for one in overviews])


def named_runs(runs: Iterable[StateRun]) -> dict[str, StateRun]:
    """Give runs the names that they have on a page: those of their folders, if these differ.

    Examples
    --------
    >>> import tensorstate as ts
    >>> with ts.StateRecorder("layer", "before.zarr") as layer:
    ...     layer.record([[1.0, -1.0]])
    >>> list(named_runs([ts.open_run("before.zarr"), ts.open_run("before.zarr")]))
    ['before.zarr', 'before.zarr (2)']
    """
    runs = list(runs)
    places = ["memory" if run._where.startswith("memory:") else run._where for run in runs]
    names = [PurePosixPath(place).name or place for place in places]
    if len(set(names)) < len(set(places)):
        names = places
    named: dict[str, StateRun] = {}
    for run, name in zip(runs, names, strict=True):
        number = 1
        while (unique := name if number == 1 else f"{name} ({number})") in named:
            number += 1
        named[unique] = run
    return named


def check_accuracies(accuracies: Sequence[float], runs: int) -> None:
    """Raise ValueError unless there is one accuracy for each run, or none, within 0 to 1."""
    if accuracies and len(accuracies) != runs:
        need = "1 run needs 1 accuracy" if runs == 1 else f"{runs} runs need {runs} accuracies"
        raise ValueError(f"{need}, or none, not {len(accuracies)}")
    for accuracy in accuracies:
        if not 0 <= accuracy <= 1:
            raise ValueError(f"an accuracy lies within 0 to 1, not {accuracy}")


def check_free(path: str | os.PathLike[str]) -> None:
    """Raise OSError if a report cannot be written to a path, or FileExistsError for another file.

    Parameters
    ----------
    path : path
        Where the report is to go.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file for the report")
    if path.exists():
        if not path.is_file():
            raise FileExistsError(f"{path} is no file: name one for the report")
        with path.open("rb") as file:
            begin = file.read(_WITHIN)
        if begin and _MARK not in begin:
            raise FileExistsError(
                f"{path} is not a report of tensorstate, which this would replace: choose another "
                "name, or remove it"
            )


def _networks(overviews: Iterable[Overview]) -> dict[str, tuple[float, float]]:
    """Return network efficiency and accuracy of the runs of which both are known."""
    found = ((one.name, one.numbers) for one in overviews)
    return {
        name: (numbers["network_efficiency"], numbers["accuracy"])
        for name, numbers in found
        if numbers["aIQ"] is not None
    }


def _title(runs: Mapping[str, StateRun]) -> str:
    models = [str(run.attributes.get("model") or name) for name, run in runs.items()]
    return "Neural efficiency of " + ", ".join(dict.fromkeys(models))


def _umask() -> int:
    """Return which permissions new files do not get; Python tells it only while it is set."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
