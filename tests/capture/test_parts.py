"""Keras models in several processes that capture their shards into one run."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tensorstate as ts
from tensorstate.storage import open_run
from tests.capture.models import images, sequential

# What torchrun would start for each rank.
PROGRAM = """
import os, sys
import keras
import tensorstate as ts
from tests.capture.models import sequential, images

path, total = sys.argv[1], int(sys.argv[2])
keras.utils.set_random_seed(7)
model = sequential()
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
start, stop = total * rank // size, total * (rank + 1) // size
probed = ts.build_efficiency_model(
    model, ["Conv2D", "Dense"], storage_path=path, part="rank", first_instance=start
)
probed.predict(images(total)[start:stop], batch_size=16, verbose=0)
ts.remove_state_layers(probed)
"""


def expected(model, x):
    """The packed outputs of the layers that are captured."""
    found = {}
    for layer in model.layers:
        x = layer(x)
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            packed = np.packbits(np.asarray(x) > 0, axis=-1, bitorder="little")
            found[f"{layer.name}_states"] = packed.reshape(-1, packed.shape[-1])
    return found


def check(path, model, x):
    run = open_run(path)
    assert run.instances == len(x)
    rows = expected(model, x)
    assert list(run) == list(rows)
    for name, layer in run.items():
        np.testing.assert_array_equal(np.asarray(layer.raw_states), rows[name])
    return run


@pytest.mark.timeout(300)
def test_two_processes_write_one_run(tmp_path):
    total, size = 75, 2
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "run"), str(total)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(size)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    keras.utils.set_random_seed(7)
    run = check(tmp_path / "run", sequential(), images(total))
    assert run.parts == {"0": range(37), "1": range(37, 75)}


def test_the_options_of_every_way_to_capture(tmp_path):
    model, x = sequential(), images(30)
    for part, (start, stop) in {"a": (0, 12), "b": (12, 30)}.items():
        options = {"part": part, "first_instance": start}
        probed = ts.build_efficiency_model(
            model, ["Conv2D", "Dense"], storage_path=tmp_path / "run", **options
        )
        probed.predict(x[start:stop], verbose=0)
        ts.remove_state_layers(probed)
        inputs = keras.Input(x.shape[1:])
        capture = ts.StateCapture("probe", tmp_path / "by hand", **options)
        by_hand = keras.Model(inputs, capture(inputs))
        by_hand.predict(x[start:stop], verbose=0)
        capture.close()
    check(tmp_path / "run", model, x)
    packed = np.packbits(x > 0, axis=-1, bitorder="little")
    np.testing.assert_array_equal(
        np.asarray(open_run(tmp_path / "by hand")["probe"].raw_states), packed.reshape(-1, 1)
    )


def test_nothing_is_made_with_options_that_make_no_sense(tmp_path):
    with pytest.raises(ValueError, match="part '1' lacks first_instance"):
        ts.build_efficiency_model(
            sequential(), ["Conv2D", "Dense"], storage_path=tmp_path / "run", part=1
        )
    with pytest.raises(ValueError, match="part '1' lacks first_instance"):
        ts.StateCapture("probe", tmp_path / "run", part=1)
    assert not (tmp_path / "run").exists()
