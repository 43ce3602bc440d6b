"""What capturing costs: process CPU time of running data through a network, against the plain one.

    [KERAS_BACKEND=jax] python -m benchmarks.capture
    python -m benchmarks.capture --framework torch
    python -m benchmarks.capture --model resnet50 --images 64 --batch 16

The ways are interleaved and their medians compared, in one process: the plain network, the same
with all its convolutions captured to disk (until everything is committed), the same kept in memory
and, in Keras, the plain network run eagerly, which is what an uncompiled probe would cost at the
least.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import copy

import tensorstate as ts
from benchmarks._measure import (
    Timings,
    add_ratios_option,
    interleaved,
    keep_ratios,
    machine,
    markdown,
)
from benchmarks._networks import Subject, in_keras, in_torch

SUBJECTS = {"keras": in_keras, "torch": in_torch}


def captured(subject: Subject, path: Path | None) -> Any:
    """Return the network with captures; in PyTorch a copy, since hooks stay where they are put."""
    model = subject.model if "keras" in subject.packages else copy.deepcopy(subject.model)
    return ts.build_efficiency_model(model, subject.attach_to, storage_path=path)


class Measured(NamedTuple):
    """What running a network took, and what was captured in one run.

    Attributes
    ----------
    timings : dict of str to Timings
        Of the plain network, and of the others by what is done.
    layers : int
        How many were captured.
    activations : int
        How many there were in them.
    packed_bytes : int
        Bytes of their packed states.
    """

    timings: dict[str, Timings]
    layers: int
    activations: int
    packed_bytes: int


def measured(subject: Subject, repeats: int) -> Measured:
    """Run a network plain, captured to disk until all is committed, in memory, and eagerly."""
    with tempfile.TemporaryDirectory() as folder:
        models = {
            "plain": subject.model,
            "captured to disk": captured(subject, Path(folder, "run.zarr")),
            "captured in memory": captured(subject, None),
        }
        if subject.eager is not None:
            models["plain, eager"] = subject.eager

        def run(way: str) -> Callable[[], None]:
            def run_and_commit() -> None:
                subject.run(models[way])
                for layer in getattr(models[way], "efficiency_layers", ())[:1]:
                    layer.flush()

            return run_and_commit

        def start_empty(way: str) -> None:
            if hasattr(models[way], "efficiency_layers"):
                ts.reset_efficiency_model(models[way])

        timings = interleaved({way: run(way) for way in models}, repeats, start_empty)
        layers = models["captured to disk"].efficiency_layers
        activations = sum(layer.state_count * layer.neurons for layer in layers)
        packed = sum(layer.state_count * -(-layer.neurons // 8) for layer in layers)
        for way in ("captured to disk", "captured in memory"):
            ts.remove_state_layers(models[way])
    return Measured(timings, len(layers), activations, packed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--framework", choices=SUBJECTS, default="keras")
    parser.add_argument("--model", choices=("lenet5", "resnet50"), default="lenet5")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=7)
    add_ratios_option(parser)
    options = parser.parse_args()

    subject = SUBJECTS[options.framework](options.model, options.images, options.batch)
    timings, layers, *_ = measured(subject, options.repeats)
    plain = timings["plain"]
    table = [
        [
            way,
            *(f"{figure(t.cpu):.3f}" for figure in (median, min, max)),
            f"{median(t.cpu) / median(plain.cpu):.2f}",
            f"{median(t.wall) / median(plain.wall):.2f}",
        ]
        for way, t in timings.items()
    ]
    ratios = {
        way: median(plain.cpu) / median(t.cpu) for way, t in timings.items() if "captured" in way
    }
    keep_ratios(options.ratios, ratios)
    print(markdown(["network", "CPU s, median", "min", "max", "CPU ratio", "wall ratio"], table))
    versions = ", ".join(f"{name} {version(name)}" for name in (*subject.packages, "zarr"))
    print(
        f"\n{subject.title}, {layers} layers captured, {options.repeats} repeats; "
        f"{machine()}, {versions}, tensorstate {ts.__version__}"
    )


if __name__ == "__main__":
    main()
