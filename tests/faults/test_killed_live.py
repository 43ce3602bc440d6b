"""A capture that counts live and is killed: nothing is counted twice, and nothing is lost.

The moments are drawn with a fixed seed, which pytest shows with a failure. TENSORSTATE_KILLS=100
runs the long form.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tensorstate.counting import count_states
from tensorstate.storage import open_run

INSTANCES, BATCH = 12_000, 60
NEURONS = {"narrow": 20, "wide": 150}
POSITIONS = 4

# Captures from wherever the run stands, as a batch job would; counts as soon as a chunk waits.
PROGRAM = """
import sys
import tensorstate as ts
from tensorstate.storage import live, writer
from tests.faults.test_killed_live import BATCH, INSTANCES, NEURONS, activations

writer._SMALLEST_CHUNK_BYTES = 4096
live.WAITING_CHUNKS = 1
path = sys.argv[1]
recorders = {
    name: ts.StateRecorder(name, path, mode="resume", queue_bytes=20_000, histogram="live")
    for name in NEURONS
}
try:
    done = ts.open_run(path).instances
except (FileNotFoundError, ValueError):
    done = 0
x = {name: activations(name) for name in NEURONS}
print(done, flush=True)
for start in range(done, INSTANCES, BATCH):
    for name, recorder in recorders.items():
        recorder.record(x[name][start : start + BATCH])
recorders["wide"].close()
"""


def activations(name):
    """The activations of all instances, the same in every process; few states are often seen."""
    rng = np.random.default_rng(NEURONS[name])
    pool = rng.normal(size=(300, NEURONS[name])).astype(np.float32)
    return pool[rng.geometric(0.02, (INSTANCES, POSITIONS)) % 300]


def check(path, rows):
    """Compare the counts of all layers with the rows; return the committed instances."""
    run = open_run(path)
    for name, layer in run.items():
        assert layer.instance_count >= run.instances
        if layer.state_count:
            assert layer.histogram() == count_states(rows[name][: layer.state_count])
    return run.instances


@pytest.mark.parametrize("seed", range(int(os.environ.get("TENSORSTATE_KILLS", "1"))))
def test_killed_and_resumed_until_it_is_done(tmp_path, seed):
    moments = random.Random(seed)
    path = tmp_path / "run"
    packed = {
        name: np.packbits(activations(name) > 0, axis=-1, bitorder="little") for name in NEURONS
    }
    rows = {name: states.reshape(INSTANCES * POSITIONS, -1) for name, states in packed.items()}
    committed = 0
    for number in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        went_on_after = int(process.stdout.readline())
        if number < 3:
            time.sleep(moments.uniform(0, 1.2))
            process.send_signal(signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
        now = check(path, rows)
        assert now >= committed, "committed instances are lost"
        committed = now
    assert process.returncode == 0, errors
    assert committed == INSTANCES
    if went_on_after < INSTANCES:
        assert not list(path.glob("*/part-0/states/c/*"))
