"""What is removed from a run as a whole is missed, and no layer is forgotten when it is written."""

import shutil
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
import torch

import tensorstate as ts
from tensorstate.nodes import DamagedMetadataError, read_array, update_attributes
from tensorstate.storage import format as store_format
from tensorstate.storage import open_run
from tests.storage.metadata import set_attributes

NAMES = ("a", "b", "c")
ROWS = np.random.default_rng(0).normal(size=(20, 3, 10))


def recorders(path, names=NAMES, **options):
    return [ts.StateRecorder(name, path, **options) for name in names]


def write(path, names=NAMES, **options):
    captures = recorders(path, names, **options)
    for capture in captures:
        capture.record(ROWS)
    captures[0].close()


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_that_is_gone_is_missed(tmp_path, name):
    write(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / name)
    with pytest.raises(DamagedMetadataError, match=f"with the layer '{name}', which is not"):
        open_run(tmp_path / "run")
    with pytest.raises(DamagedMetadataError, match=f"with the layer '{name}', which is not"):
        recorders(tmp_path / "run", mode="resume")


def test_all_layers_that_are_gone_are_missed(tmp_path):
    write(tmp_path / "run")
    for name in NAMES:
        shutil.rmtree(tmp_path / "run" / name)
    with pytest.raises(DamagedMetadataError, match="is not there any more: put it back"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("gone", ["b", "b/part-y"])
def test_a_layer_of_a_part_that_is_gone_is_missed(tmp_path, gone):
    write(tmp_path / "run", part="x", first_instance=0)
    write(tmp_path / "run", part="y", first_instance=20)
    assert open_run(tmp_path / "run").instances == 40
    shutil.rmtree(tmp_path / "run" / gone)
    with pytest.raises(DamagedMetadataError, match=r"part [xy] was committed with the layer 'b'"):
        open_run(tmp_path / "run")


def test_parts_may_have_layers_of_their_own(tmp_path):
    write(tmp_path / "run", part="x", first_instance=0)
    write(tmp_path / "run", ("a",), part="y", first_instance=20)
    run = open_run(tmp_path / "run")
    assert [layer.instance_count for layer in run.values()] == [40, 20, 20]


def test_a_part_is_dropped_from_all_layers_or_from_none(tmp_path, monkeypatch):
    write(tmp_path / "run", part="x", first_instance=0)
    delete = store_format.StorePath.delete_dir
    deleted = []

    async def delete_once(path):
        deleted.append(path)
        if len(deleted) > 1:
            raise OSError("the network is gone")
        await delete(path)

    with monkeypatch.context() as patch:
        patch.setattr(store_format.StorePath, "delete_dir", delete_once)
        with pytest.raises(OSError, match="is gone"):
            recorders(tmp_path / "run", mode="w", part="x", first_instance=0)
    assert open_run(tmp_path / "run").instances == 0
    write(tmp_path / "run", mode="w", part="x", first_instance=0)
    assert open_run(tmp_path / "run").instances == 20


def test_a_run_that_was_being_overwritten_is_not_taken_for_a_whole_one(tmp_path, monkeypatch):
    write(tmp_path / "run")
    removed = []

    def remove_once(path):
        removed.append(path)
        if len(removed) > 1:
            raise OSError("the disk is gone")
        shutil.rmtree(path)

    with monkeypatch.context() as patch:
        patch.setattr("tensorstate.storage.stores.remove_layer", remove_once)
        with pytest.raises(OSError, match="is gone"):
            recorders(tmp_path / "run", mode="w")
    assert open_run(tmp_path / "run").instances == 0
    write(tmp_path / "run", mode="resume")
    assert len(open_run(tmp_path / "run")["b"].histogram().sorted().counts)


def test_a_run_of_an_earlier_version_is_read_without(tmp_path):
    write(tmp_path / "run")
    group = store_format.open_format(tmp_path / "run", "r+")
    attributes = {name: value for name, value in group.attrs.items() if name != "layers"}
    group.attrs.put(attributes)
    set_attributes(store_format.open_format(tmp_path / "run", "r+"))
    shutil.rmtree(tmp_path / "run/b")
    assert list(open_run(tmp_path / "run")) == ["a", "c"]


@pytest.mark.parametrize("names", [["../a"], "a", [3], [""], {"a": 1}, [".labels"]])
def test_names_that_are_none(tmp_path, names):
    write(tmp_path / "run")
    update_attributes(store_format.open_format(tmp_path / "run", "r+"), {"layers": names})
    with pytest.raises(DamagedMetadataError, match=r"are its layers: its metadata is damaged"):
        open_run(tmp_path / "run")


def test_the_names_are_where_instances_are_committed(tmp_path):
    write(tmp_path / "alone")
    write(tmp_path / "run", part="x", first_instance=0)
    assert store_format.open_format(tmp_path / "alone").attrs["layers"] == list(NAMES)
    part = store_format.open_format(tmp_path / "run").store_path / "b/part-x/states"
    assert read_array(part).attrs["layers"] == list(NAMES)


def test_labels_that_are_gone_are_missed(tmp_path):
    write(tmp_path / "run")
    run = open_run(tmp_path / "run")
    run.set_labels(np.arange(20) % 3)
    shutil.rmtree(tmp_path / "run/.labels")
    for opened in (run, open_run(tmp_path / "run")):
        with pytest.raises(ValueError, match=r"labels of run .*\(they are not there any more\)"):
            opened.labels  # noqa: B018  (the look-up is the test)
    run.set_labels(np.arange(20) % 4)
    assert open_run(tmp_path / "run").labels.max() == 3


def test_what_a_kill_left_of_the_attribute_of_a_cache_is_removed(tmp_path):
    write(tmp_path / "run")
    open_run(tmp_path / "run")["a"].histogram()
    left = tmp_path / "run/a/histogram/zarr.0.partial"
    left.write_bytes(b"cut short")
    recorders(tmp_path / "run", mode="resume")[0].record(ROWS)
    assert not left.exists()
    left.write_bytes(b"cut short")
    with closing(recorders(tmp_path / "again")[0]) as other:
        other.record(ROWS)
        other.flush()
        other.histogram()
        left = tmp_path / "again/a/histogram/zarr.0.partial"
        left.write_bytes(b"cut short")
        other.record(ROWS)
        other.histogram()
        assert not left.exists()


def broken_off(path, names=("a", "b"), **options):
    """Record a first batch that does not reach all layers."""
    captures = dict(zip(NAMES, recorders(path, **options), strict=True))
    try:
        for name in names:
            captures[name].record(ROWS)
        raise ZeroDivisionError
    finally:
        captures["a"].close()


@pytest.mark.parametrize("options", [{}, {"part": 0, "first_instance": 0}], ids=["alone", "part"])
def test_a_first_batch_that_is_broken_off_is_not_committed(tmp_path, options):
    with pytest.raises(ZeroDivisionError):
        broken_off(tmp_path / "run", **options)
    assert open_run(tmp_path / "run").instances == 0
    write(tmp_path / "run", mode="resume", **options)
    write(tmp_path / "whole", **options)
    run, whole = open_run(tmp_path / "run"), open_run(tmp_path / "whole")
    assert list(run) == list(whole) == list(NAMES)
    assert all(run[name].histogram() == whole[name].histogram() for name in NAMES)
    assert run.instances == 20


def test_reading_a_first_batch_that_is_broken_off_does_not_commit_it(tmp_path):
    captures = recorders(tmp_path / "run")
    captures[0].record(ROWS)
    captures[0].flush()
    assert captures[0].histogram().total == 60
    assert open_run(tmp_path / "run").instances == 0
    captures[1].record(ROWS)
    captures[2].record(ROWS)
    captures[0].flush()
    assert open_run(tmp_path / "run").instances == 20
    captures[0].close()


def test_a_capture_that_no_batch_reaches_is_not_waited_for(tmp_path):
    one, two = recorders(tmp_path / "one"), recorders(tmp_path / "two")
    for capture in (*one[:2], *two[:2], *two[:2]):
        capture.record(ROWS)
    two[0].flush()
    assert open_run(tmp_path / "two").instances == 40
    two[0].close()
    one[0].close()
    assert open_run(tmp_path / "one").instances == 20
    assert list(open_run(tmp_path / "one")) == ["a", "b"]


def test_other_layers_after_a_start_that_committed_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        broken_off(tmp_path / "run")
    write(tmp_path / "run", ("a", "other"), mode="resume")
    run = open_run(tmp_path / "run")
    assert list(run) == ["a", "other"]
    assert not len(run.verify())


ENDED = """
import sys
import numpy as np, torch
import tensorstate as ts
from tests.storage.test_listed import failing

model = ts.build_efficiency_model(failing(), ["ReLU"], storage_path=sys.argv[1])
model(torch.ones(4, 6))
"""


class Failing(torch.nn.Module):
    def __init__(self, fails):
        super().__init__()
        self.fails = fails

    def forward(self, x):
        if self.fails:
            raise KeyboardInterrupt
        return x


def failing(fails=True):
    layers = [torch.nn.ReLU(), torch.nn.ReLU(), Failing(fails), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)


def test_a_network_that_is_interrupted_in_its_first_batch(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ENDED, tmp_path / "run"], capture_output=True, text=True, check=False
    )
    assert "KeyboardInterrupt" in done.stderr
    assert open_run(tmp_path / "run").instances == 0
    model = ts.build_efficiency_model(
        failing(fails=False), ["ReLU"], storage_path=tmp_path / "run", mode="resume"
    )
    model(torch.ones(4, 6))
    ts.remove_state_layers(model)
    run = open_run(tmp_path / "run")
    assert (run.instances, len(run)) == (4, 3)
