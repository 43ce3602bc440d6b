"""Runs of all kinds, to make pages of."""

from contextlib import ExitStack

import numpy as np

import tensorstate as ts
from tensorstate.storage import LayerInfo, RunWriter

HOSTILE = (
    "<script>window.hacked = 1<script>",
    '"><img src=x onerror="window.hacked = 1">',
    "'quoted' \"twice\" & more",
    "{{ 7 * 7 }} ${7 * 7} $$x^2$$",
    "=1+1 🙂 ünïcode 层",
    "long " + "name " * 99,
)
"""Names that somebody may give to a layer or a label."""

HOSTILE_LABELS = (*HOSTILE, "</script><script>window.hacked = 1</script>", "\\(y\\) \\[z\\]")


def recorded(store, layers, *, instances=60, labels=None, **options):
    """Record a run of random activations: {name: (positions, neurons)}."""
    rng = np.random.default_rng(0)
    with ExitStack() as recorders:
        for name, (positions, neurons) in layers.items():
            recorder = recorders.enter_context(ts.StateRecorder(name, store, **options))
            shared = rng.normal(size=(instances, positions, 1))
            recorder.record(rng.normal(size=(instances, positions, neurons)) + shared)
    run = ts.open_run(store)
    if labels is not None:
        run.set_labels(labels)
    return run


def with_empty_layer(store):
    """Write a run with a layer that has states and one that has none."""
    writer = RunWriter(store)
    writer.add_layer("empty", LayerInfo(4, 2))
    writer.close()
    return ts.open_run(store)


def with_variable_positions(store):
    """Record sequences of different lengths."""
    rng = np.random.default_rng(0)
    with ts.StateRecorder("lstm", store, variable_positions=True) as lstm:
        lstm.record(rng.normal(size=(30, 12, 9)), lengths=rng.integers(1, 13, 30))
    return ts.open_run(store)
