"""What commands print: tables for people, JSON for machines, and messages."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["console", "print_json", "records", "say"]

# Tables keep their columns when they are not shown on a terminal.
_PLAIN_WIDTH = 120


def console() -> Console:
    """Return where tables are printed: standard output."""
    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)


def print_json(found: Any) -> None:
    """Print what machines are to read, in a line."""
    click.echo(json.dumps(found))


def say(message: str) -> None:
    """Print a message to standard error, which leaves standard output to the results."""
    click.echo(f"tensorstate: {message}", err=True)


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
