"""What a page carries: figures, packed; scripts; and the policy that lets nothing else run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import bokeh
from bokeh.document import Document
from bokeh.models import Plot
from bokeh.resources import Resources

from tensorstate.report.figure import Figure

__all__ = ["Packed", "PlacedFigure", "bokeh_script", "page_file", "pack", "policy"]


@dataclass(frozen=True)
class PlacedFigure:
    """A figure, and what it shows.

    Attributes
    ----------
    figure : Figure
        What is drawn.
    run : str
        Name of the run if the page has several; else empty.
    about : str
        What the figure is of, for the name of its CSV file: run and layer.
    """

    figure: Figure
    run: str
    about: str


@dataclass(frozen=True)
class Packed:
    """Figures as text that a script of the page unpacks.

    Attributes
    ----------
    id : str
        Identifier within the page.
    text : str
        Base64 of gzip of JSON: letters, digits, "+", "/" and "=" only, whatever names and labels
        are in it.
    """

    id: str
    text: str


def pack(id: str, groups: Iterable[Sequence[PlacedFigure]]) -> Packed | None:
    """Pack figures that are drawn together.

    Parameters
    ----------
    id : str
        Identifier within the page.
    groups : iterable of sequence of PlacedFigure
        Figures that stand side by side. Their plots become parts of documents of their own.

    Returns
    -------
    Packed or None
        None if there is no figure.
    """
    content = [[_embedded(placed) for placed in group] for group in groups if group]
    if not content:
        return None
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    # The same figures give the same text: no time is noted.
    packed = gzip.compress(text.encode(), 9, mtime=0)
    return Packed(id, base64.b64encode(packed).decode())


def _embedded(placed: PlacedFigure) -> dict[str, Any]:
    figure = placed.figure
    return {
        "name": figure.name,
        "run": placed.run,
        "title": figure.title,
        "alternative": figure.alternative,
        "meaning": figure.meaning,
        "doubt": figure.doubt,
        "file": _file_name(placed.about, figure.name),
        "csv": figure.data.to_csv(lineterminator="\n"),
        "item": _item(figure.plot),
    }


def _item(plot: Plot) -> dict[str, Any]:
    """Return what `bokeh.embed.json_item` does, in less time: these plots need no validation."""
    document = Document()
    document.add_root(plot)
    return {
        "target_id": None,
        "root_id": plot.id,
        "doc": document.to_json(deferred=False),
        "version": bokeh.__version__,
    }


def _file_name(about: str, figure: str) -> str:
    """Return the name of a CSV file.

    Examples
    --------
    >>> _file_name('run <b>"a"</b> conv/1', "spectrum")
    'run_b_a_b_conv_1-spectrum.csv'
    """
    safe = re.sub(r"[^A-Za-z0-9]+", "_", about).strip("_")[:60]
    return f"{safe or 'run'}-{figure}.csv"


@cache
def bokeh_script() -> str:
    """Return Bokeh's script, without widgets, tables, formulas and WebGL."""
    resources = Resources(mode="inline")
    resources.components = ["bokeh"]
    script: str = resources.js_raw[0]
    return script


def page_file(name: str) -> str:
    """Return the text of a file that the page is made of: its template, style or script."""
    return (files("tensorstate.report") / "page_files" / name).read_text(encoding="utf-8")


def policy(scripts: Iterable[str]) -> str:
    """Return the content security policy of a page: these scripts run, and nothing is loaded.

    Parameters
    ----------
    scripts : iterable of str
        The scripts as they stand in the page.

    References
    ----------
    W3C, Content Security Policy Level 3. Styles are inline since Bokeh makes its own.

    Examples
    --------
    >>> policy(["alert(1)"]).split("; ")[:2]  # doctest: +ELLIPSIS
    ["default-src 'none'", "script-src 'sha256-...
    """
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {allowed}",
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
