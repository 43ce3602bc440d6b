"""Benchmarks on little data: GPUs as far as they run without one, estimators, processes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tensorstate as ts
from benchmarks import capture_gpu, estimators, processes
from benchmarks._networks import Subject
from benchmarks._resnet50 import resnet50

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_benchmark_says_so_and_succeeds():
    command = [sys.executable, "-m", "benchmarks.capture_gpu", "--frameworks", "torch"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "There is no GPU here that can be used by torch: not measured.\n"


def test_the_tables_are_made_of_what_is_measured(capsys):
    model, x = resnet50(10).eval(), torch.rand(2, 3, 32, 32)

    def run(some):
        with torch.inference_mode():
            some(x)

    subject = Subject("small images", ("torch",), "Conv2d", model, run)
    figures = capture_gpu.network(subject, repeats=1)
    assert figures["layers"] == 53
    assert figures["activation_bytes"] == 32 * figures["packed_bytes"] > 0
    ways, size = capture_gpu.torch_ways("cpu", (2, 16, 8, 8))
    speeds = {"torch": capture_gpu.packing(ways, size, 1)}
    ways, size = capture_gpu.jax_ways((2, 16, 8, 8))
    speeds["keras-jax"] = capture_gpu.packing(ways, size, 1)
    assert size == 2 * 16 * 8 * 8 * 4
    capture_gpu.show({name: {"network": figures, "packing": s} for name, s in speeds.items()})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| framework | layers | plain, s | captured to disk, ratio |")
    assert [line.split()[1] for line in lines if "53" in line] == ["torch", "keras-jax"]


def test_bias_and_intervals_of_estimators_come_from_one_command(monkeypatch, capsys):
    options = "--samples 2 --rows 20 50 --interval-samples 2 --instances 10"
    monkeypatch.setattr(sys, "argv", ["estimators", *options.split()])
    estimators.main()
    out = capsys.readouterr().out
    assert "| source | order | bits | estimator | 20 rows | 50 rows |" in out
    assert "| source | bits | instances | plugin |" in out
    for source in ("uniform", "Zipf", "Dirichlet"):
        rows = [line for line in out.splitlines() if line.startswith(f"| {source} |")]
        # Nine estimates, how often NSB's interval covers, and the intervals.
        assert len(rows) == 11
    assert "| topics | 12.00 | 10 |" in out
    monkeypatch.setattr(sys, "argv", ["estimators", *options.split(), "--tables", "intervals"])
    estimators.main()
    assert "| estimator |" not in capsys.readouterr().out


def test_an_estimate_that_is_right_on_average_has_no_bias():
    """Errors are those of the estimates, and not of their truth."""
    p = estimators.sources(0)["uniform"]
    found = estimators.errors(p, [np.full(len(p), 3)], 1, "plugin")
    assert found == pytest.approx([0], abs=1e-12)
    assert estimators.true_entropy(p, 2) == pytest.approx(estimators.NEURONS)


def test_processes_together_record_what_one_does_and_count_it():
    command = [sys.executable, "-m", "benchmarks.processes", "--repeats", "1", "--rows", "1e5"]
    command += ["--batches", "4", "--capturing", "1", "4", "--counting", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Capturing 800 instances of one layer into one run" in done.stdout
    first = [line.split(" | ")[0] for line in done.stdout.splitlines() if line.startswith("| ")]
    counted = ["| low", "| low", "| high", "| high"]
    assert first == ["| processes", "| ---", "| 1", "| 4", "| states", "| ---", *counted]


def test_a_run_that_lacks_a_batch_is_no_result(tmp_path):
    with ts.StateRecorder("conv_1", tmp_path / "run") as recorder:
        recorder.record(processes.activations())
    processes._check(str(tmp_path / "run"), 1)
    with pytest.raises(SystemExit, match="does not hold what was recorded"):
        processes._check(str(tmp_path / "run"), 2)
