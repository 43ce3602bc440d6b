"""`tensorstate info`: the layers of a run."""

from __future__ import annotations

import click

from tensorstate.cli.layers import print_layers
from tensorstate.cli.on_cluster import on_cluster
from tensorstate.cli.options import (
    counting_limits,
    examples,
    json_option,
    limit_options,
    quiet_option,
)
from tensorstate.storage import open_run

__all__ = ["info"]


@click.command(
    short_help="Show the layers of a run.",
    epilog=examples(
        "tensorstate info run.zarr",
        'tensorstate info --memory-limit "1 GiB" run.zarr',
        "tensorstate info --json run.zarr",
    ),
)
@click.argument("run")
@limit_options
@quiet_option
@json_option
@on_cluster
def info(run: str, memory_limit: str | None, spill: str | None, as_json: bool) -> None:
    """Show the layers of a stored RUN, with their entropy and efficiency.

    RUN is the path or URL of a run. What is not counted yet is counted, as by `tensorstate count`;
    no deep-learning framework is needed.
    """
    opened = open_run(run)
    with counting_limits(memory_limit, spill):
        summary = opened.summary()
    print_layers(opened, summary, as_json)
