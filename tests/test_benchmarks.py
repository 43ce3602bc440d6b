"""The benchmarks of GPUs, as far as they run without one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import capture_gpu
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
