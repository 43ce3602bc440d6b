"""Labels that are stored in a run."""

import re

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore

import tensorstate as ts
from tensorstate.storage import open_run


def recorded(store, instances=12):
    with ts.StateRecorder("layer", store) as recorder:
        recorder.record(np.random.default_rng(0).normal(size=(instances, 3, 5)))
    return open_run(store)


@pytest.mark.parametrize(
    "labels",
    [
        [0, 2, 1] * 4,
        ["cat", 'dog "quoted" <b>', "äöü 🦊"] * 4,
        np.array([True, False, True] * 4),
        np.arange(12, dtype=np.uint8),
    ],
    ids=["int", "str", "bool", "uint8"],
)
def test_labels_come_back_and_are_used(tmp_path, labels):
    run = recorded(tmp_path / "run")
    assert run.labels is None
    run.set_labels(labels)
    again = open_run(tmp_path / "run")
    assert again.labels.tolist() == list(np.asarray(labels).tolist())
    assert list(again) == ["layer"]
    for layer in (run["layer"], again["layer"]):
        assert layer.label_summary().equals(layer.label_summary(labels))
        assert layer.label_information().equals(layer.label_information(labels))
        assert layer.label_overlap().equals(layer.label_overlap(labels))


def test_labels_are_replaced_and_others_may_be_passed():
    run = recorded(MemoryStore())
    run.set_labels([0] * 12)
    run.set_labels(["a", "b"] * 6)
    assert run["layer"].label_summary().index.tolist() == ["a", "b"]
    assert run["layer"].label_summary([7] * 12).index.tolist() == [7]


def test_what_does_not_fit():
    run = recorded(MemoryStore())
    with pytest.raises(ValueError, match="3 labels do not fit 12 instances"):
        run.set_labels([0, 1, 2])
    with pytest.raises(TypeError, match="whole numbers, strings or bools"):
        run.set_labels([1j] * 12)
    assert run.labels is None
    with pytest.raises(ValueError, match="'layer' has no labels: pass one for every instance"):
        run["layer"].label_summary()


def test_more_instances_than_labels(tmp_path):
    recorded(tmp_path / "run").set_labels([0, 1] * 6)
    with ts.StateRecorder("layer", tmp_path / "run", mode="resume") as recorder:
        recorder.record(np.ones((2, 3, 5)))
    with pytest.raises(ValueError, match="12 labels do not fit 14 instances"):
        open_run(tmp_path / "run")["layer"].label_summary()


def test_a_store_that_is_read_only(tmp_path):
    recorded(tmp_path / "run")
    run = open_run(LocalStore(tmp_path / "run", read_only=True))
    with pytest.raises(PermissionError, match="read-only store"):
        run.set_labels([0] * 12)


def test_labels_whose_writer_was_killed(tmp_path):
    run = recorded(tmp_path / "run")
    run.set_labels([0, 1] * 6)
    array = zarr.open_array(tmp_path / "run", path=".labels")
    (tmp_path / "run" / ".labels" / "c" / "0").unlink()
    assert array[...].tolist() == [-1] * 12
    with pytest.raises(
        ValueError, match=r"are not complete, or damaged .some are not there.: set them"
    ):
        open_run(tmp_path / "run").labels  # noqa: B018
    assert open_run(tmp_path / "run")["layer"].entropy() > 0
    run.set_labels([0, 1] * 6)
    assert open_run(tmp_path / "run").labels.tolist() == [0, 1] * 6


@pytest.mark.parametrize("harm", ["older", "names", "shape", "nothing there", "no metadata"])
def test_labels_that_are_not_those_stored_last(tmp_path, harm):
    run = recorded(tmp_path / "run")
    run.set_labels(["cat", "dog"] * 6)
    document = tmp_path / "run/.labels/zarr.json"
    chunk = tmp_path / "run/.labels/c/0"
    before = chunk.read_bytes()
    run.set_labels(["cat"] * 6 + ["dog"] * 6)
    if harm == "older":
        chunk.write_bytes(before)
    elif harm == "names":
        document.write_text(document.read_text().replace('"cat"', '"cow"'))
    elif harm == "no metadata":
        document.unlink()
    else:
        shape = 10**14 if harm == "nothing there" else 11
        document.write_text(re.sub(r'"shape": \[\s*12', f'"shape": [{shape}', document.read_text()))
    says = "are not complete, or damaged .*: set them again"
    with pytest.raises(ValueError, match=says):
        open_run(tmp_path / "run").labels  # noqa: B018
    with pytest.raises(ValueError, match=says):
        open_run(tmp_path / "run")["layer"].label_summary()
    run.set_labels([0, 1] * 6)
    assert open_run(tmp_path / "run").labels.tolist() == [0, 1] * 6


def test_overwriting_a_run_forgets_its_labels(tmp_path):
    recorded(tmp_path / "run").set_labels([0, 1] * 6)
    with ts.StateRecorder("layer", tmp_path / "run", mode="w") as recorder:
        recorder.record(np.ones((12, 3, 5)))
    assert open_run(tmp_path / "run").labels is None
