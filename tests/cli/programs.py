"""The command as users run it, a program of its own; and networks that tests give to it."""

import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


def command(*arguments, folder=None, timeout=300):
    """Run the command to its end."""
    return subprocess.run(
        program(*arguments), capture_output=True, text=True, timeout=timeout, cwd=folder
    )


def program(*arguments):
    """Return the arguments of a process that runs the command."""
    return [sys.executable, "-m", "tensorstate", *map(str, arguments)]


def net():
    """Return a small PyTorch network for instances of the shape (1, 8, 8), always the same."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(216, 10)
    )
