"""A capture that is killed: what was committed is right, and a resumed run ends as if it never was.

The moments are drawn with fixed seeds. ``python -m benchmarks.kills`` is the long form.
"""

import random
import shutil

import numpy as np
import pytest

from benchmarks.kills import INSTANCES, SHAPES, Survival, capture_unbroken, expected, survive
from tensorstate import open_run


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    path = tmp_path_factory.mktemp("unbroken") / "run"
    return path, capture_unbroken(path)


def test_a_capture_that_is_not_killed(unbroken):
    run = open_run(unbroken[0])
    assert run.instances == INSTANCES
    for name in SHAPES:
        np.testing.assert_array_equal(run[name].raw_states[:], expected(name, INSTANCES))


def test_killed_and_resumed_until_it_is_done(tmp_path, unbroken):
    found = Survival()
    # A capture that is faster than the one that was timed may end before it is killed.
    for seed in range(20):
        found += survive(tmp_path / str(seed), random.Random(seed), 3, *unbroken)
        if found.kills >= 3:
            break
    assert found.is_whole, found
    assert found.kills >= 3
    assert found.rows > 0, "nothing was committed before a kill: nothing is tested"


def test_what_is_wrong_is_found(tmp_path, unbroken):
    path, seconds = unbroken
    other = tmp_path / "other"
    shutil.copytree(path, other)
    chunk = next(file for file in other.glob("conv_3/part-*/states/c/**/*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[::-1])
    found = survive(tmp_path / "run", random.Random(0), 0, other, seconds)
    assert (found.runs, found.equal, found.is_whole) == (1, 0, False)
