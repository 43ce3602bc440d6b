"""`tensorstate verify`: whether a run is whole."""

from __future__ import annotations

import sys

import click

from tensorstate.cli import DAMAGED
from tensorstate.cli.options import examples, json_option
from tensorstate.cli.output import console, print_json
from tensorstate.report import damage_table, records
from tensorstate.storage import open_run

__all__ = ["verify"]


@click.command(
    epilog=examples("tensorstate verify run.zarr", "tensorstate verify --salvage new.zarr run.zarr")
)
@click.argument("run")
@click.option("--salvage", metavar="OUT", help="Write the instances that are whole to a new run.")
@json_option
def verify(run: str, salvage: str | None, as_json: bool) -> None:
    """Read everything that a RUN has committed, and list what is damaged.

    Exits with 3 if something is, also if what is whole was salvaged.
    """
    opened = open_run(run)
    damage = opened.verify()
    salvaged = opened.salvage(salvage).instances if salvage and len(damage) else None
    if as_json:
        found = {"instances": opened.instances, "damage": records(damage), "salvaged": salvaged}
        print_json(found)
    elif len(damage):
        console().print(damage_table(damage))
        if salvaged is not None:
            click.echo(f"{salvaged:,} of {opened.instances:,} instances are whole, in {salvage}")
    else:
        click.echo(f"whole: {len(opened)} layers, {opened.instances:,} instances")
    if len(damage):
        sys.exit(DAMAGED)
