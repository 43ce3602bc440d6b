"""Small tables for notebooks, from what is known without counting."""

from __future__ import annotations

import html
from collections.abc import Sequence

from tensorstate.counting import StateHistogram
from tensorstate.metrics import entropy_of_spectrum, sample_support
from tensorstate.report.drawing import percent
from tensorstate.storage import DamagedChunkError, LayerStates, StateRun

__all__ = ["histogram_html", "layer_html", "run_html"]

_NOT_COUNTED = ("not counted yet", "", "", "")
_COLUMNS = (
    "neurons",
    "positions",
    "instances",
    "states",
    "distinct states",
    "entropy",
    "efficiency",
    "limits of the sample",
)


def run_html(run: StateRun) -> str:
    """Return a table with a row for each layer of a run."""
    rows = [(name, *_facts(layer)) for name, layer in run.items()]
    return _table(repr(run).strip("<>"), ("layer", *_COLUMNS), rows)


def layer_html(layer: LayerStates) -> str:
    """Return a table with a row for each number of a layer."""
    rows = [row for row in zip(_COLUMNS, _facts(layer), strict=True) if row[1]]
    return _table(f"{type(layer).__name__} {layer.name}", (), rows)


def histogram_html(histogram: StateHistogram) -> str:
    """Return a table with a row for each number of a histogram."""
    rows = [
        ("states", f"{histogram.total:,}"),
        ("distinct states", f"{histogram.distinct:,}"),
        ("bytes of a state", f"{histogram.width:,}"),
        ("kept", "in files" if histogram.is_stored else "in memory"),
    ]
    return _table("StateHistogram", (), rows)


def _facts(layer: LayerStates) -> tuple[str, ...]:
    info = layer._layer_info()
    if info is None:
        return ("", "", "", "0", "no states yet", "", "", "")
    positions = "vary" if info.positions is None else f"{info.positions:,}"
    size = (f"{info.neurons:,}", positions, f"{layer.instance_count:,}", f"{layer.state_count:,}")
    return (*size, *_counted(layer, info.neurons))


def _counted(layer: LayerStates, neurons: int) -> tuple[str, ...]:
    """Return what is known of the counts."""
    if layer.state_count == 0:
        return ("no states yet", "", "", "")
    try:
        known = layer._known_spectrum()
    except DamagedChunkError:
        return ("counts are damaged", "", "", "")
    if known is None:
        return _NOT_COUNTED
    bits = entropy_of_spectrum(*known)
    support = sample_support(*known, neurons)
    return f"{support.distinct:,}", f"{bits:.3f} bits", percent(bits / neurons), support.flag


def _table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay text out; whatever is in it, it is shown as it is."""
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row" style="{_WRAPPED}">{html.escape(first)}</th>'
        + "".join(f'<td style="{_WRAPPED}">{html.escape(cell)}</td>' for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    return (
        f'<table><caption style="{_WRAPPED}">{html.escape(caption)}</caption>'
        + (f"<thead><tr>{head}</tr></thead>" if head else "")
        + f"<tbody>{body}</tbody></table>"
    )


_WRAPPED = "max-width:24em;overflow-wrap:anywhere;text-align:left"
