"""The examples that `--help` and the README give are run as they stand there."""

import json
import os
import re
import shlex
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import tensorstate as ts
from tests.cli.programs import ROOT, command, put_on_path

COMMANDS = ("capture", "count", "plan", "info", "verify", "report")

NETWORKS = """
import torch

def build():
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make everything that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    digits = np.random.default_rng(0).random((600, 12, 12, 1), np.float32)
    np.save(folder / "digits.npy", digits)
    np.savez(folder / "digits.npz", images=np.moveaxis(digits, 3, 1), labels=np.arange(600))
    np.save(folder / "states.npy", np.zeros((1000, 3), np.uint8))
    (folder / "networks.py").write_text(NETWORKS)
    (folder / "images").mkdir()
    Image.new("L", (9, 9)).save(folder / "images" / "a.png")
    layers = [keras.layers.Input((12, 12, 1)), keras.layers.Conv2D(5, 3, name="conv_1")]
    keras.Sequential(layers).save(folder / "lenet5.keras")
    return folder


def examples_of(here, name):
    shown = here(name, "--help").stdout
    return re.findall(r"^    (tensorstate .*)$", shown.partition("Examples:")[2], re.MULTILINE)


def test_examples_of_the_help(here, folder, monkeypatch):
    """They go on from one command to the next: what is captured is counted."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in COMMANDS:
        examples = examples_of(here, name)
        assert len(examples) > 1
        for example in examples:
            ended = here(*shlex.split(example)[1:])
            assert ended.returncode == 0, example + ended.stderr
            if "--json" in example:
                json.loads(ended.stdout)


def test_examples_of_the_help_of_demo(here, tmp_path, monkeypatch):
    """The short training comes first, and the other example goes on with its network."""
    monkeypatch.chdir(tmp_path)
    whole, short = examples_of(here, "demo")
    ended = command(*shlex.split(short)[1:], folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    aiq = json.loads(ended.stdout)["aIQ"]
    (tmp_path / "tensorstate-demo").mkdir()
    (tmp_path / "build/lenet5.keras").rename(tmp_path / "tensorstate-demo/lenet5.keras")
    ended = command(*shlex.split(whole)[1:], folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert f"aIQ: {100 * aiq:.1f}%" in ended.stdout


def test_every_command_has_json_and_examples(here):
    overview = here("--help").stdout
    for name in (*COMMANDS, "demo"):
        assert re.search(rf"^  {name} ", overview, re.MULTILINE)
        assert "--json" in here(name, "--help").stdout
        assert examples_of(here, name)


def test_the_recipe_of_the_readme(tmp_path):
    """Four processes capture the shards of one run, which equals a capture in one piece."""
    (recipe,) = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "bin").mkdir()
    path = put_on_path(tmp_path / "bin")
    ended = subprocess.run(
        ["bash", "-e", "-c", recipe],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    run = ts.open_run(tmp_path / "shards.zarr")
    assert run.parts == {str(i): range(1250 * i, 1250 * (i + 1)) for i in range(4)}
    (layer,) = run.values()
    whole = capture_in_one_piece(tmp_path)
    assert layer.histogram() == whole.histogram()
    assert f"{100 * whole.efficiency():.1f} %" in ended.stdout


def capture_in_one_piece(folder):
    """Capture what the recipe captures with the package itself."""
    import torch

    program = {}
    exec((folder / "digits.py").read_text(), program)
    network = ts.build_efficiency_model(program["network"]().eval(), "Conv2d")
    with torch.inference_mode():
        network(torch.from_numpy(program["images"]() * (1 / 255)).float())
    return network.efficiency_layers[0]
