"""`tensorstate info`: the layers of a run."""

from __future__ import annotations

import click

from tensorstate.cli.layers import print_layers
from tensorstate.cli.on_cluster import on_cluster
from tensorstate.cli.options import examples, json_option, quiet_option
from tensorstate.storage import open_run

__all__ = ["info"]


@click.command(epilog=examples("tensorstate info run.zarr", "tensorstate info --json run.zarr"))
@click.argument("run")
@quiet_option
@json_option
@on_cluster
def info(run: str, as_json: bool) -> None:
    """Show the layers of a stored RUN, with their entropy and efficiency.

    RUN is the path or URL of a run. Its states are counted; no deep-learning framework is needed.
    """
    opened = open_run(run)
    print_layers(opened, opened.summary(), as_json)
