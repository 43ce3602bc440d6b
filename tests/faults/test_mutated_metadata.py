"""Metadata that were damaged or forged; ``python -m tests.faults.mutated`` is the long form."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("options", [[], ["--before-checksums"]])
def test_what_is_read_is_right_or_refused(options):
    command = [sys.executable, "-m", "tests.faults.mutated", "--examples", "60", *options]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root)
    assert done.returncode == 0, done.stderr
    score = json.loads(done.stdout.splitlines()[-1])
    assert score["tried"] == 60
    assert score["wrong"] == 0
    assert score["refused"] > 10
    assert score["right"] > 10
