"""A capture that is killed: what was committed is right, and a resumed run ends as if it never was.

The moments are drawn with fixed seeds. ``python -m benchmarks.kills`` is the long form.
"""

import random

import numpy as np
import pytest

from benchmarks.kills import INSTANCES, NEURONS, capture, expected, survive
from tensorstate import open_run


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    path = tmp_path_factory.mktemp("unbroken") / "run"
    capture(path)
    return path


def test_a_capture_that_is_not_killed(unbroken):
    run = open_run(unbroken)
    assert run.instances == INSTANCES
    for name in NEURONS:
        np.testing.assert_array_equal(run[name].raw_states[:], expected(name, INSTANCES))


@pytest.mark.parametrize("seed", range(4))
def test_killed_and_resumed_until_it_is_done(tmp_path, seed, unbroken):
    found = survive(tmp_path / "run", random.Random(seed), 3, unbroken)
    assert found.kills > 0
    assert found.is_whole, found


def test_what_is_wrong_is_found(tmp_path, unbroken):
    other = tmp_path / "other"
    capture(other)
    chunk = next(file for file in other.glob("conv_3/part-*/states/c/**/*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[::-1])
    found = survive(tmp_path / "run", random.Random(0), 0, other)
    assert (found.runs, found.equal, found.is_whole) == (1, 0, False)
