"""A capture that is killed: what was committed is right, and a resumed run ends as if it never was.

The moments are drawn with a fixed seed, which pytest shows with a failure. TENSORSTATE_KILLS=100
runs the long form.
"""

import functools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tensorstate.capture import StateRecorder
from tensorstate.storage import open_run

INSTANCES, BATCH = 2000, 20
# Of the last one, instances have from none to as many positions.
POSITIONS = {"conv_1": 64, "conv_2": 16, "conv_3": 1, "lstm": 30}
NEURONS = {"conv_1": 20, "conv_2": 50, "conv_3": 100, "lstm": 24}

# Captures deterministic activations from wherever the run stands, as a batch job would.
PROGRAM = """
import sys
from tests.faults.test_killed_capture import capture

capture(sys.argv[1])
"""


def capture(path):
    try:
        done = open_run(path).instances
    except (FileNotFoundError, ValueError):
        done = 0
    options = {"mode": "resume", "queue_bytes": 400_000}
    recorders = [
        StateRecorder(name, path, variable_positions=name == "lstm", **options) for name in NEURONS
    ]
    print(done, flush=True)
    for start in range(done, INSTANCES, BATCH):
        stop = min(start + BATCH, INSTANCES)
        for recorder in recorders:
            lengths = lengths_of(start, stop) if recorder.name == "lstm" else None
            recorder.record(activations(recorder.name, start, stop), lengths)
    recorders[0].close()


def activations(name, start, stop):
    """The activations of instances start to stop, the same in every process."""
    shape = (POSITIONS[name], NEURONS[name])
    batch = np.empty((stop - start, *shape))
    for number in range(start, stop):
        batch[number - start] = np.random.default_rng(number).normal(size=shape)
    return batch


def lengths_of(start, stop):
    """How many positions of the instances start to stop count, where they differ in that."""
    return [number * 7919 % (POSITIONS["lstm"] + 1) for number in range(start, stop)]


@functools.cache
def instances_of(name):
    """The rows of each instance."""
    rows = np.packbits(activations(name, 0, INSTANCES) > 0, axis=-1, bitorder="little")
    if name != "lstm":
        return [*rows]
    return [own[:length] for own, length in zip(rows, lengths_of(0, INSTANCES), strict=True)]


def check(layer, instances):
    """Compare all rows, and those of the last instance by itself."""
    assert layer.instance_count == instances
    expected = instances_of(layer.name)[:instances]
    nothing = np.empty((0, layer.raw_states.shape[1]), np.uint8)
    np.testing.assert_array_equal(layer.raw_states[:], np.concatenate([nothing, *expected]))
    if expected and layer.state_count:
        counts = np.unique(expected[-1], axis=0, return_counts=True)[1]
        assert sorted(layer.counts([instances - 1])) == sorted(counts)


def chunks(path):
    """What is in every file that holds states or offsets."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("part-0/*/c/**/*")
        if file.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never killed."""
    path = tmp_path_factory.mktemp("whole") / "run"
    capture(path)
    assert {name.split("/")[0] for name in chunks(path) if "offsets" in name} == {"lstm"}
    return path


def start(path):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("seed", range(int(os.environ.get("TENSORSTATE_KILLS", "4"))))
def test_killed_and_resumed_until_it_is_done(tmp_path, seed, whole):
    moments = random.Random(seed)
    path = tmp_path / "run"
    committed = 0
    for _ in range(3):
        process = start(path)
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.8))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        run = open_run(path)
        assert run.instances >= committed, "committed instances are lost"
        committed = run.instances
        for layer in run.values():
            assert layer.instance_count >= committed
            check(layer, layer.instance_count)
    process = start(path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    run = open_run(path)
    assert run.instances == INSTANCES
    for layer in run.values():
        check(layer, INSTANCES)
    assert chunks(path) == chunks(whole)
