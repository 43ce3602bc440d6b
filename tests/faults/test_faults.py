"""Faults of all kinds, a few of each; ``python -m benchmarks.faults`` is the long form.

What is drawn depends on the seed, the case and the number of a try alone: what fails here is
repeated by ``python -m benchmarks.faults --seed 0 --case NAME --only K``, as its text says.
"""

import random
import shutil

import numpy as np
import pytest
from zarr.storage import LocalStore

from benchmarks import faults
from benchmarks._faults import damage, kill
from benchmarks._faults import store as stores
from benchmarks._faults.case import Case, LostError, WrongError, chance, run_case
from benchmarks.faults import CASES

TRIES = dict.fromkeys(CASES, 2)
TRIES |= {"damage": 40, "damage-cached": 40, "kill-capture": 3, "kill-live": 3}
TRIES |= dict.fromkeys([name for name in CASES if name.startswith("store-")], 5)
TRIES |= {"worker-paused": 1, "worker-slowed": 1, "scheduler-killed": 1}
# Every file with each kind of damage would take too long: the numbers are those of this step.
STEP = {"damage": 7, "damage-cached": 9}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CASES)
def test_faults_are_survived(name):
    step = STEP.get(name, 1)
    found = run_case(CASES[name], 0, range(0, step * TRIES[name], step))
    if found.not_here:
        pytest.skip(found.not_here)
    assert found.is_whole, "\n".join(found.errors)
    assert found.tried == TRIES[name]


def ended(error):
    """Run a case of which every try ends in the same way."""

    def check(subject, folder):
        if error is not None:
            raise error
        return "right"

    case = Case("made-up", "nothing", 3, lambda folder: None, lambda *_: "nothing", check)
    return run_case(case, 0, range(3))


@pytest.mark.parametrize(
    ("error", "cells"),
    [
        (None, [3, 3, 0, 0, 0]),
        (LostError("gone"), [3, 0, 0, 3, 0]),
        (WrongError("other numbers"), [3, 0, 0, 0, 3]),
        (KeyError("unexpected"), [3, 0, 0, 3, 0]),
    ],
)
def test_what_is_not_survived_is_told_with_what_repeats_it(error, cells):
    found = ended(error)
    assert found.cells() == cells
    assert found.is_whole == (error is None)
    assert len(found.errors) == (0 if error is None else 3)
    assert all("made-up, --seed 0 --only" in text for text in found.errors)


def test_the_same_is_drawn_for_the_same_try():
    assert chance(1, "a", 2).random() == chance(1, "a", 2).random()
    assert len({chance(1, "a", n).random() for n in range(9)}) == 9
    assert chance(1, "a", 2).number == 2
    assert isinstance(chance(0, "a", 0), random.Random)


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    return kill.prepare_captured(tmp_path_factory.mktemp("captured"))


def test_rows_and_instances_that_are_not_as_they_were_captured_are_found(captured, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(captured.whole / "run", run)
    assert kill.check_rows(run) == kill.INSTANCES
    with pytest.raises(LostError, match="instances were committed"):
        kill.check_rows(run, kill.INSTANCES + 1)
    (run / "conv_1/part-0/digests/left.partial").parent.mkdir(exist_ok=True)
    (run / "conv_1/left.partial").write_bytes(b"")
    (run / "conv_1/left.partial").rename(run / "conv_1/histogram.partial")
    shutil.copy(run / "conv_1/zarr.json", run / "conv_1/zarr.1.partial")
    assert kill.check_complete(captured, tmp_path) == "right"
    assert not [*run.rglob("*.partial")]


def test_a_damage_that_is_not_found_is_silently_wrong(tmp_path):
    subject = damage._prepare(tmp_path, cached=False)
    subject.expected["instances"] += 1
    with pytest.raises(WrongError, match="instances"):
        damage._check(subject, tmp_path)


def test_the_store_that_fails_does(tmp_path):
    store = stores.FailingStore(LocalStore(tmp_path), every=2)
    np.testing.assert_equal([_fails(store) for _ in range(6)], [False, True] * 3)


def _fails(store):
    try:
        store._fail("key")
    except OSError:
        return True
    return False


def test_one_table_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(faults.sys, "argv", ["faults", "--case", "kill-save", "--tries", "2"])
    with pytest.raises(SystemExit) as ended:
        faults.main()
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "| kill-save | SIGKILL while a histogram is saved | 2 | 2 |" in out
    monkeypatch.setattr(faults.sys, "argv", ["faults", "--list"])
    faults.main()
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(CASES)
