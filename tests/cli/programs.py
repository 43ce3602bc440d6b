"""The command, run as a program of its own or in this process; and a network to give to it."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from tensorstate.cli import main

ROOT = Path(__file__).parents[2]

NET = "tests.cli.programs:net"
ARRAY_NAME = "tests.cli.programs:ARRAY"
STREAM_NAME = "tests.cli.programs:stream"
SHAPE = (1, 8, 8)

# Small whole numbers, as are the weights: sums are exact, whatever the size of a batch.
ARRAY = np.random.default_rng(0).integers(-4, 5, (60, *SHAPE)).astype(np.float32)
asked_to_start = []


def net():
    """Return a small PyTorch network for instances of the shape (1, 8, 8), always the same."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(216, 10)
    )
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_((16 * weight).round())
    return network


def convolution():
    """Return the first module of the network, which takes images of any size."""
    return net()[:1].eval()


def stream(start=0):
    """Yield the instances of `ARRAY` in batches of 7."""
    asked_to_start.append(start)
    for first in range(start, len(ARRAY), 7):
        yield ARRAY[first : first + 7]


def expected_counts(instances, module=0):
    """Count the states of a module of the network by brute force: packed state to count."""
    with torch.inference_mode():
        activations = net().eval()[: module + 1](torch.from_numpy(np.asarray(instances)))
    rows = np.packbits(np.moveaxis(activations.numpy(), 1, -1) > 0, axis=-1, bitorder="little")
    states, counts = np.unique(rows.reshape(-1, rows.shape[-1]), axis=0, return_counts=True)
    return {s.tobytes(): c for s, c in zip(states, counts.tolist(), strict=True)}


def counts_of(layer):
    """Return the counts of a layer: packed state to count."""
    return dict(zip(layer.state_ids(), layer.counts().tolist(), strict=True))


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def program(*arguments):
    """Return the arguments of a process that runs the command."""
    return [sys.executable, "-m", "tensorstate", *map(str, arguments)]


def command(*arguments, timeout=300, folder=ROOT):
    """Run the command as a program of its own in a folder, to its end."""
    ended = subprocess.run(
        program(*arguments), capture_output=True, text=True, timeout=timeout, cwd=folder
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def put_on_path(folder):
    """Make the command a program in a folder, as an installation does; return PATH with it."""
    file = folder / "tensorstate"
    file.write_text(f'#!/bin/sh\nexec {sys.executable} -m tensorstate "$@"\n')
    file.chmod(0o755)
    return os.pathsep.join([str(folder), os.environ["PATH"]])


def here(monkeypatch, capfd, *arguments):
    """Run the command in this process, where the frameworks are imported already."""
    monkeypatch.setattr(sys, "argv", ["tensorstate", *map(str, arguments)])
    before = signal.getsignal(signal.SIGTERM)
    capfd.readouterr()
    try:
        main()
    except SystemExit as ended:
        out, err = capfd.readouterr()
        return Ended(ended.code, out, err)
    finally:
        signal.signal(signal.SIGTERM, before)


def resume_command(text):
    """Return the arguments of the command that a stopped capture says to go on with."""
    line = re.search(r"^  (tensorstate capture .*)$", text, re.MULTILINE)[1]
    return shlex.split(line)[1:]
