"""The jobs of scripts/slurm on a real Slurm of one node."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tensorstate as ts
from tensorstate.clusters import connected
from tests import slurm

ROOT = Path(__file__).parents[1]
INSTANCES = 51

pytestmark = [
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
    pytest.mark.timeout(300),
]


def network():
    """A small network of PyTorch, the same in every process."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 12, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(432, 9)
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    with slurm.one_node_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield {
            **environment,
            "TENSORSTATE_ENV": sys.prefix,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            "OMP_NUM_THREADS": "1",
        }


@pytest.fixture
def submit(environment, tmp_path):
    """Submit jobs from a folder with the scripts, and wait for their end.

    What was said is returned, and the logs of the jobs by their names.
    """
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")

    def ask(*command):
        return subprocess.run(
            [str(word) for word in command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    def run(*arguments):
        said = ask("bash", "scripts/slurm/submit.sh", *arguments)
        slurm.wait_until(lambda: not ask("squeue", "--noheader").strip())
        return said, {path.name: path.read_text() for path in tmp_path.glob("*.log")}

    return run


def test_an_array_captures_shards_and_a_cluster_counts_them(submit, tmp_path):
    images = np.random.default_rng(0).normal(size=(INSTANCES, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    path = tmp_path / "run.zarr"
    options = ["--attach-to", "Conv2d", "--attach-to", "ReLU", "--batch-size", "7"]
    said, logs = submit("tests.test_slurm:network", "images.npy", path, 2, *options)
    assert re.fullmatch(r"capture: job \d+, 2 tasks; then count: job \d+\n", said)
    run = ts.open_run(path)
    assert run.parts == {"0": range(25), "1": range(25, 51)}, logs

    import torch

    alone = ts.build_efficiency_model(network(), ["Conv2d", "ReLU"])
    with torch.inference_mode():
        alone(torch.from_numpy(images))
    for layer in alone.efficiency_layers:
        np.testing.assert_array_equal(run[layer.name].raw_states, layer.raw_states)
    (counted,) = (text for name, text in logs.items() if name.startswith("tensorstate-count-"))
    (line,) = (line for line in counted.splitlines() if line.startswith("{"))
    expected = {layer.name: len(layer.counts()) for layer in alone.efficiency_layers}
    found = {layer["layer"]: layer["distinct"] for layer in json.loads(line)["layers"]}
    assert found == expected
    assert len(re.findall("Registered to:", counted)) == 2, "two workers count"
    assert not list(tmp_path.glob("tensorstate-count-*-*/")), "the folder of the cluster is left"


def test_nothing_is_counted_where_a_shard_failed(submit, tmp_path):
    _, logs = submit("tests.test_slurm:network", "nothing.npy", "run.zarr", 2, "--attach-to", "x")
    assert len(logs) == 2
    for name, text in logs.items():
        assert name.startswith("tensorstate-capture-")
        assert "No such file or directory: 'nothing.npy'" in text
    assert not (tmp_path / "run.zarr").exists()


def test_workers_are_asked_of_the_queue(environment, tmp_path, monkeypatch):
    for name in ("SLURM_CONF", "PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, environment[name])
    options = {
        "cores": 1,
        "memory": "1 GB",
        "workers": 1,
        "log_directory": str(tmp_path),
        "local_directory": str(tmp_path),
        "scheduler_options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"},
        "worker_extra_args": ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"],
    }
    with connected(cluster="slurm", options=options) as client:
        assert client.run(os.getenv, "SLURM_JOB_NAME") == dict.fromkeys(
            client.nthreads(), "dask-worker"
        )
        assert ts.count_states(np.array([[5], [5], [0]], np.uint8)).distinct == 2
