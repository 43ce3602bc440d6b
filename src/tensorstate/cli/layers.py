"""What is told of the layers of a run, once they are counted."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tensorstate.cli.output import console, print_json
from tensorstate.metrics import network_efficiency
from tensorstate.report import layer_table, records
from tensorstate.storage import StateRun

__all__ = ["print_layers"]


def print_layers(run: StateRun, summary: pd.DataFrame, as_json: bool) -> None:
    """Print the numbers of layers, and those of the network if it is all of them.

    Parameters
    ----------
    run : StateRun
        The run.
    summary : pandas.DataFrame
        Of all or some of its layers, as `StateRun.summary` gives it.
    as_json : bool
        Whether machines are to read it.
    """
    recorded = summary["efficiency"].dropna()
    is_whole = len(recorded) > 0 and len(summary) == len(run)
    network = network_efficiency(recorded.tolist()) if is_whole else None
    if as_json:
        found: dict[str, Any] = {
            "run": run.attributes,
            "instances": run.instances,
            "layers": records(summary.reset_index()),
            "network_efficiency": network,
        }
        print_json(found)
        return
    about, out = run.attributes, console()
    out.print(
        f"{about.get('model') or 'run'}: {run.instances:,} instances, "
        f"captured {about.get('created', 'at an unknown time')}",
        markup=False,
    )
    out.print(layer_table(summary))
    if network is not None:
        out.print(f"Network efficiency: {100 * network:.1f} %")
