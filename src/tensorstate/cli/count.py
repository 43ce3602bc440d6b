"""`tensorstate count`: count the states of a run."""

from __future__ import annotations

import click

from tensorstate.cli.layers import print_layers
from tensorstate.cli.on_cluster import on_cluster
from tensorstate.cli.options import (
    chosen_layers,
    counting_limits,
    examples,
    json_option,
    layer_option,
    limit_options,
    quiet_option,
)
from tensorstate.storage import open_run
from tensorstate.storage.run import summary_of

__all__ = ["count"]


@click.command(
    short_help="Count the states of a run, within a limit of memory.",
    epilog=examples(
        "tensorstate count run.zarr",
        'tensorstate count --layer conv_1_states --memory-limit "1 GiB" --spill . run.zarr',
        "tensorstate count --quiet --json run.zarr",
        "tensorstate count --cluster local --cluster-options '{n_workers: 2}' run.zarr",
    ),
)
@click.argument("run")
@layer_option
@limit_options
@quiet_option
@json_option
@on_cluster
def count(
    run: str,
    layers: tuple[str, ...],
    memory_limit: str | None,
    spill: str | None,
    as_json: bool,
) -> None:
    """Count the states of a RUN, keep the counts in it, and show its layers.

    RUN is the path or URL of a run. What was counted before is not counted again: after more
    states were captured, only these are. What does not fit the memory limit goes to files, which
    are removed at the end, also after Ctrl-C.
    """
    opened = open_run(run)
    chosen = chosen_layers(opened, layers)
    with counting_limits(memory_limit, spill):
        for layer in chosen:
            if layer.state_count:
                layer.spectrum()
        summary = summary_of(chosen)
    print_layers(opened, summary, as_json)
