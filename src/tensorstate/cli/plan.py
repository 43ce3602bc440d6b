"""`tensorstate plan`: what a count would cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import zarr
from zarr.errors import ContainsGroupError, NodeTypeValidationError

from tensorstate.cli.arrays import open_npy
from tensorstate.cli.on_cluster import on_cluster
from tensorstate.cli.options import (
    chosen_layers,
    counting_limits,
    examples,
    json_option,
    layer_option,
    limit_options,
)
from tensorstate.cli.output import console, print_json
from tensorstate.counting import plan_count
from tensorstate.report import plan_table
from tensorstate.storage import open_run

__all__ = ["plan"]


@click.command(
    short_help="Tell what a count would take, before it runs.",
    epilog=examples(
        "tensorstate plan run.zarr",
        'tensorstate plan --layer conv_1_states --memory-limit "1 GiB" run.zarr',
        "tensorstate plan --json states.npy",
    ),
)
@click.argument("run")
@layer_option
@limit_options
@json_option
@on_cluster
def plan(
    run: str, layers: tuple[str, ...], memory_limit: str | None, spill: str | None, as_json: bool
) -> None:
    """Tell what counting the states of a RUN would take, without reading any of them.

    RUN is the path or URL of a run, or an array of packed states, (rows, W) uint8: a .npy file or
    a Zarr array. A layer that was counted already takes nothing: its counts are in the run.
    """
    with counting_limits(memory_limit, spill):
        try:
            plans = {name: plan_count(states) for name, states in _states(run, layers).items()}
        except TypeError as error:
            raise ValueError(f"{run}: {error}") from error
    if as_json:
        print_json({"plans": [{"layer": name, **asdict(found)} for name, found in plans.items()]})
    else:
        console().print(plan_table(plans))


def _states(source: str, layers: tuple[str, ...]) -> dict[str, Any]:
    """Return what would be counted, by name."""
    array = _packed_states(source)
    if array is None:
        return {layer.name: layer.raw_states for layer in chosen_layers(open_run(source), layers)}
    if layers:
        raise click.BadParameter(f"{source} is an array, without layers", param_hint="--layer")
    return {Path(source).name: array}


def _packed_states(source: str) -> Any | None:
    """Return an array of packed states; None if that is not what is there."""
    if source.endswith(".npy"):
        return open_npy(source)
    try:
        return zarr.open_array(source, mode="r")
    except (FileNotFoundError, NotADirectoryError, ContainsGroupError, NodeTypeValidationError):
        return None
    except json.JSONDecodeError:  # who opens it as a run tells what is damaged
        return None
