"""The `tensorstate` command."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any, NoReturn

import click
from rich.console import Console

from tensorstate._version import __version__
from tensorstate.metrics import network_efficiency
from tensorstate.report import damage_table, layer_table
from tensorstate.storage import DamagedChunkError, StateRun, open_run

__all__ = ["main"]

FAILED, DAMAGED, INTERRUPTED = 1, 3, 130

# Tables keep their columns when they are not shown on a terminal.
_PLAIN_WIDTH = 120


def main() -> NoReturn:
    """Run the command line and exit with a code that tells how it went."""
    try:
        _commands(prog_name="tensorstate", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    except DamagedChunkError as error:
        _say(str(error))
        sys.exit(DAMAGED)
    except (OSError, ValueError) as error:
        _say(str(error))
        sys.exit(FAILED)
    sys.exit(0)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 damage found, 130 interrupted.",
)
@click.version_option(
    __version__,
    message="tensorstate %(version)s, "
    + ", ".join(f"{name} {version(name)}" for name in ("numpy", "zarr", "dask", "numba")),
)
def _commands() -> None:
    """Show how much of a neural network's capacity is really used."""


@_commands.command(
    epilog="Examples: tensorstate info run.zarr, or tensorstate info --json run.zarr"
)
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def info(run: str, as_json: bool) -> None:
    """Show the layers of a stored RUN, with their entropy and efficiency.

    RUN is the path or URL of a run. Its states are counted; no deep-learning framework is needed.
    """
    opened = open_run(run)
    summary = opened.summary()
    recorded = summary["efficiency"].dropna()
    network = network_efficiency(recorded.tolist()) if len(recorded) else None
    if as_json:
        click.echo(json.dumps(_as_json(opened, summary, network)))
        return
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)
    about = opened.attributes
    console.print(
        f"{about.get('model') or 'run'}: {opened.instances:,} instances, "
        f"captured {about.get('created', 'at an unknown time')}",
        markup=False,
    )
    console.print(layer_table(summary))
    if network is not None:
        console.print(f"Network efficiency: {100 * network:.1f} %")


@_commands.command(
    epilog="Examples: tensorstate verify run.zarr, or tensorstate verify --salvage new run.zarr"
)
@click.argument("run")
@click.option("--salvage", metavar="OUT", help="Write the instances that are whole to a new run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def verify(run: str, salvage: str | None, as_json: bool) -> None:
    """Read everything that a RUN has committed, and list what is damaged.

    Exits with 3 if something is, also if what is whole was salvaged.
    """
    opened = open_run(run)
    damage = opened.verify()
    salvaged = opened.salvage(salvage).instances if salvage and len(damage) else None
    if as_json:
        rows = damage.astype(object).where(damage.notna(), None).to_dict(orient="records")
        found = {"instances": opened.instances, "damage": rows, "salvaged": salvaged}
        click.echo(json.dumps(found))
    elif len(damage):
        console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)
        console.print(damage_table(damage))
        if salvaged is not None:
            click.echo(f"{salvaged:,} of {opened.instances:,} instances are whole, in {salvage}")
    else:
        click.echo(f"whole: {len(opened)} layers, {opened.instances:,} instances")
    if len(damage):
        sys.exit(DAMAGED)


def _as_json(run: StateRun, summary: Any, network: float | None) -> dict[str, Any]:
    layers = summary.reset_index().astype(object)
    layers = layers.where(layers.notna(), None)
    return {
        "run": run.attributes,
        "instances": run.instances,
        "layers": layers.to_dict(orient="records"),
        "network_efficiency": network,
    }


def _say(message: str) -> None:
    click.echo(f"tensorstate: {message}", err=True)
