"""What commands print: tables for people, JSON for machines, and messages."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console

__all__ = ["console", "print_json", "say"]

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
