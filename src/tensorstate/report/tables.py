"""Tables for a terminal, and for machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table

from tensorstate.counting import CountPlan
from tensorstate.counting.memory import as_text

__all__ = ["damage_table", "layer_table", "plan_table", "records"]


def layer_table(summary: pd.DataFrame, title: str = "") -> Table:
    """Lay a run's summary out for a terminal.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `StateRun.summary`: a row for each layer.
    title : str, optional
        What stands above the table.

    Returns
    -------
    rich.table.Table
        Entropies in bits and efficiencies in percent. Those of a layer with a flag are marked with
        an asterisk, and the flags stand below: how each sample is too small.
    """
    table = Table(title=title or None, title_justify="left")
    table.add_column("layer")
    headers = ("neurons", "positions", "instances", "states", "distinct", "entropy", "efficiency")
    for header in headers:
        table.add_column(header, justify="right")
    limited = []
    for name, row in summary.iterrows():
        counts = [
            "vary" if pd.isna(row[column]) else f"{int(row[column]):,}" for column in headers[:5]
        ]
        if row["states"] == 0:
            table.add_row(escape(str(name)), *counts, "-", "-")
            continue
        mark = ""
        if row["flag"]:
            mark = "*"
            limited.append(f"  {escape(str(name))}: {row['flag']}")
        table.add_row(
            escape(str(name)),
            *counts,
            f"{row['entropy']:.3f} bits{mark}",
            f"{100 * row['efficiency']:.1f} %{mark}",
        )
    if limited:
        table.caption = "\n".join(
            ["* limited by the number of states captured, not by the layer:", *limited]
        )
        table.caption_justify = "left"
    return table


def damage_table(damage: pd.DataFrame) -> Table:
    """Lay damage out for a terminal.

    Parameters
    ----------
    damage : pandas.DataFrame
        From `StateRun.verify`: a row for each damage.

    Returns
    -------
    rich.table.Table
    """
    table = Table(title=f"{len(damage)} damaged", title_justify="left")
    for header in ("layer", "part", "chunk", "instances", "problem"):
        table.add_column(header, overflow="fold")
    for row in damage.to_dict(orient="records"):
        chunk = "-" if row["chunk"] is pd.NA else str(row["chunk"])
        instances = f"{row['first_instance']} to {row['last_instance']}"
        cells = (row["layer"], row["part"], chunk, instances, row["problem"])
        table.add_row(*(escape(cell) for cell in cells))
    return table


def plan_table(plans: Mapping[str, CountPlan]) -> Table:
    """Lay plans of counts out for a terminal.

    Parameters
    ----------
    plans : mapping of str to CountPlan
        By what is counted.

    Returns
    -------
    rich.table.Table
        What each count reads, and takes at most of memory, in each process that runs tasks, and of
        the disk.
    """
    table = Table(title_justify="left")
    table.add_column("layer")
    for header in ("states", "bytes", "reads", "tasks", "memory", "of", "spills"):
        table.add_column(header, justify="right")
    for name, plan in plans.items():
        table.add_row(
            escape(name),
            f"{plan.rows:,}",
            str(plan.width),
            as_text(plan.bytes_read),
            f"{plan.map_tasks} + {plan.merge_tasks}",
            as_text(plan.peak_memory),
            as_text(plan.memory_limit),
            as_text(plan.spill_bytes) if plan.spills else "-",
        )
    where = {plan.spill for plan in plans.values() if plan.spills}
    if where:
        table.caption = f"spills at most so much below {escape(', '.join(sorted(where)))}"
        table.caption_justify = "left"
    return table


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON types; what is missing is None.

    Examples
    --------
    >>> import pandas as pd
    >>> records(pd.DataFrame({"layer": ["a", "b"], "entropy": [1.5, float("nan")]}))
    [{'layer': 'a', 'entropy': 1.5}, {'layer': 'b', 'entropy': None}]
    """
    objects = table.astype(object)
    rows = objects.where(table.notna(), None).to_dict(orient="records")
    return [{str(name): value for name, value in row.items()} for row in rows]
