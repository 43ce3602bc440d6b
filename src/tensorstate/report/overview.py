"""The numbers of a run as the words and cells of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tensorstate.metrics import aIQ, network_efficiency
from tensorstate.report.drawing import percent
from tensorstate.report.samples import SAMPLE_STATES, is_live, sample_of
from tensorstate.report.tables import records
from tensorstate.storage import LayerStates, StateRun

__all__ = ["WORDS", "Cell", "Overview", "Row", "overview"]

WEIGHT = 2
"""The weight of accuracy in the aIQ at the head of a page, as in the tutorial."""

WORDS = (
    ("state", "The firing pattern of a layer's neurons at one position of one instance."),
    ("instances", "Inputs, such as images."),
    ("positions", "States of one instance: 24 x 24 for a 5x5 convolution on 28x28 pixels."),
    ("distinct", "How many different states occurred."),
    (
        "entropy",
        "How many bits the states need on average (Shannon, as observed). Below it the 95 % "
        "interval if other instances were drawn: it says nothing of the bias of a small sample. "
        f"It is left out for a layer of more than {SAMPLE_STATES:,} states, where "
        "entropy_interval() of the layer takes its time for it.",
    ),
    ("efficiency", "Entropy over the most it could be, one bit for each neuron: 0 to 100 %."),
    (
        "coverage",
        "Estimated share of all occurrences that the states seen so far account for: at 90 %, one "
        "state in ten would be new.",
    ),
    (
        "dead",
        f"Neurons that fired in no state. In a layer of more than {SAMPLE_STATES:,} states, about "
        "so many are looked at, and the number is a bound. Where no states were kept (live "
        "histograms), it is not known.",
    ),
    (
        "flag",
        "How the sample limits the entropy. At the ceiling, nearly every state is new: the entropy "
        "measures how many states were captured, and not the layer. With unseen states, it is "
        "too low by about so much. More instances help in both cases.",
    ),
)
"""What the columns mean."""

_COUNTS = ("neurons", "parameters", "positions", "states", "distinct")


@dataclass(frozen=True)
class Cell:
    """A cell of the table: its text, a smaller one below, and how much of it is filled, in %."""

    text: str
    small: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Row:
    """A layer in the table, and where on the page its figures are."""

    name: str
    anchor: str
    cells: tuple[Cell, ...]
    flag: str


@dataclass(frozen=True)
class Overview:
    """What is said of a run.

    Attributes
    ----------
    name : str
        Of the run.
    facts : list of (str, str)
        Names and values, the most important first.
    about : str
        Model, time and versions.
    notes : list of str
        What to keep in mind.
    columns : list of str
        Of the table, with that of the layers' names and that of the flags.
    rows : list of Row
    numbers : dict
        The same as JSON types.
    """

    name: str
    facts: list[tuple[str, str]]
    about: str
    notes: list[str]
    columns: list[str]
    rows: list[Row]
    numbers: dict[str, Any]


def overview(
    name: str, run: StateRun, accuracy: float | None, anchors: Mapping[str, str]
) -> Overview:
    """Say what there is to say of a run.

    Parameters
    ----------
    name : str
        How the run is called on the page.
    run : StateRun
        Its layers are counted, if they are not yet.
    accuracy : float or None
        Of the network, 0 to 1.
    anchors : mapping of str to str
        Where on the page each layer is.

    Raises
    ------
    ValueError
        If the accuracy is not within 0 to 1; or as for `LayerStates.histogram`.
    """
    summary = run.summary()
    recorded = summary["efficiency"].dropna()
    network = network_efficiency(recorded.tolist()) if len(recorded) else None
    quotient = None if network is None or accuracy is None else aIQ(network, accuracy, WEIGHT)
    return Overview(
        name=name,
        facts=_facts(run, summary, network, accuracy, quotient),
        about=_about(name, run),
        notes=_notes(summary),
        columns=["layer", *_COUNTS, "entropy", "efficiency", "coverage", "dead", "flag"],
        rows=[
            Row(layer, anchors[layer], _cells(run[layer], row), row["flag"])
            for layer, (_, row) in zip(run, summary.iterrows(), strict=True)
        ],
        numbers={
            "run": name,
            "model": run.attributes.get("model"),
            "instances": run.instances,
            "accuracy": accuracy,
            "network_efficiency": network,
            "aIQ": quotient,
            "layers": records(summary.reset_index()),
        },
    )


def _facts(
    run: StateRun,
    summary: pd.DataFrame,
    network: float | None,
    accuracy: float | None,
    quotient: float | None,
) -> list[tuple[str, str]]:
    facts = [("network efficiency", "none: no states" if network is None else percent(network))]
    if accuracy is not None:
        facts.append(("accuracy", percent(accuracy)))
    if quotient is not None:
        facts.append((f"aIQ, weight {WEIGHT}", percent(quotient)))
    facts += [
        ("instances", f"{run.instances:,}"),
        ("layers", f"{len(run):,}"),
        ("states", f"{summary['states'].sum():,}"),
    ]
    labels = run.labels
    if labels is not None:
        facts.append(("labels", f"{len(np.unique(labels)):,} different"))
    return facts


def _about(name: str, run: StateRun) -> str:
    about = run.attributes
    versions: Mapping[str, Any] = about.get("versions") or {}
    used = ", ".join(f"{package} {version}" for package, version in versions.items())
    created = str(about.get("created") or "an unknown time").replace("T", " ")
    return (
        f"Run {name} of model {about.get('model') or 'without a name'}, captured {created} with "
        f"{used or 'unknown versions'}."
    )


def _notes(summary: pd.DataFrame) -> list[str]:
    notes = []
    flagged = int((summary["flag"] != "").sum())
    if flagged:
        notes.append(
            f"{flagged} of {len(summary)} layers have a flag: their samples are too small for "
            "their states, and their entropy and efficiency are likely to be higher than shown."
        )
    empty = int((summary["states"] == 0).sum())
    if empty:
        notes.append(
            f"{empty} of {len(summary)} layers hold no states, and do not count for the network "
            "efficiency."
        )
    return notes


def _cells(layer: LayerStates, row: pd.Series[Any]) -> tuple[Cell, ...]:
    cells = [
        Cell(("vary" if name == "positions" else "-") if pd.isna(row[name]) else f"{row[name]:,}")
        for name in _COUNTS
    ]
    if not row["states"]:
        return (*cells, *[Cell("-")] * 4)
    share = float(row["efficiency"])
    return (
        *cells,
        Cell(f"{row['entropy']:.3f} bits", _interval(layer)),
        Cell(percent(share), share=round(100 * min(share, 1.0), 1)),
        Cell(percent(row["coverage"])),
        Cell(_dead(layer)),
    )


def _interval(layer: LayerStates) -> str:
    if is_live(layer) or layer.instance_count < 2 or layer.state_count > SAMPLE_STATES:
        return ""
    found = layer.entropy_interval()
    if math.isnan(found["low"]):
        return ""
    return f"{found['low']:.3f} to {found['high']:.3f}"


def _dead(layer: LayerStates) -> str:
    if is_live(layer):
        return "-"
    sample = sample_of(layer, SAMPLE_STATES)
    dead = int(layer.neuron_summary(sample)["dead"].sum())
    # What fires in none of some states may still fire in others, but nothing else does not.
    return f"{dead:,}" if sample is None or not dead else f"at most {dead:,}"
