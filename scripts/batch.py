"""Capture one shard of the data, and count a run: the two steps of the batch jobs.

    python scripts/batch.py capture MODEL DATA -o RUN --attach-to CLASS --shard I/N --resume
    python scripts/batch.py count RUN --scheduler scheduler.json

MODEL is a .keras file, or module:function that returns a Keras or PyTorch model; DATA is a .npy
file with the instances on its first axis, of which shard I of N becomes part I of the run.
"""

import importlib
import json
import os
import signal
import sys

import click
import numpy as np

import tensorstate as ts
from tensorstate.cli_clusters import on_cluster


@click.group()
def main():
    """Capture the states of a network in shards, and count them."""


@main.command()
@click.argument("model")
@click.argument("data")
@click.option("-o", "--output", required=True, metavar="RUN")
@click.option("--attach-to", multiple=True, required=True, metavar="CLASS")
@click.option("--shard", required=True, metavar="I/N")
@click.option("--batch-size", default=256, show_default=True)
@click.option("--resume", is_flag=True, help="Go on after the instances that are committed.")
def capture(model, data, output, attach_to, shard, batch_size, resume):
    """Pass a shard of DATA through MODEL, and record the states of its layers in a RUN."""
    # Slurm and Kubernetes say so when the time is up: what was captured is committed then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    instances = np.load(data, mmap_mode="r")
    number, shards = (int(text) for text in shard.split("/"))
    first, stop = (len(instances) * n // shards for n in (number, number + 1))
    model, predict = _open_model(model)
    model = ts.build_efficiency_model(
        model,
        list(attach_to),
        storage_path=output,
        mode="resume" if resume else "x",
        part=number,
        first_instance=first,
    )
    try:
        done = ts.open_run(output).parts.get(str(number), range(first, first)).stop
        for start in range(done, stop, batch_size):
            predict(model, np.array(instances[start : min(start + batch_size, stop)]))
    finally:
        ts.remove_state_layers(model)
    click.echo(f"part {number} of {output}: instances {first} to {stop - 1}")


@main.command()
@click.argument("run")
@on_cluster
def count(run):
    """Count the states of a RUN, keep the counts in it, and print what they say as JSON."""
    summary = ts.open_run(run).summary()
    click.echo(json.dumps(summary.to_dict(orient="index")))


def _open_model(name):
    """Return a model, and how a batch is passed through it."""
    if name.endswith(".keras"):
        import keras

        return keras.saving.load_model(name), _predict_with_keras
    module, _, function = name.partition(":")
    sys.path.insert(0, os.getcwd())
    model = getattr(importlib.import_module(module), function)()
    is_torch = "torch" in sys.modules and isinstance(model, sys.modules["torch"].nn.Module)
    return model, _predict_with_torch if is_torch else _predict_with_keras


def _predict_with_keras(model, batch):
    model.predict(batch, batch_size=len(batch), verbose=0)


def _predict_with_torch(model, batch):
    import torch

    model.eval()
    with torch.inference_mode():
        model(torch.from_numpy(batch))


if __name__ == "__main__":
    main()
