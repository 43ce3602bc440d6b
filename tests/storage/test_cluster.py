"""A stored run counted by worker processes: cached, selected, by label, and damaged."""

import numpy as np
import pytest

from tensorstate.capture import StateRecorder
from tensorstate.storage import DamagedChunkError, LayerInfo, RunWriter, open_run
from tests.clusters import local_cluster
from tests.strategies import as_dict, count_by_hand


@pytest.fixture(scope="module", autouse=True)
def client():
    with local_cluster() as client:
        yield client


def write(store, rows, mode="x"):
    writer = RunWriter(store, mode=mode, queue_bytes=64 << 10)
    writer.add_layer("layer", LayerInfo(8 * rows.shape[1], 10))
    writer.put("layer", rows)
    writer.close()


@pytest.mark.parametrize("width", [8, 20])
def test_counts_on_a_cluster(tmp_path, width):
    rows = np.random.default_rng(0).integers(0, 3, (40_000, width), dtype=np.uint8)
    write(tmp_path / "run", rows[:15_000])
    open_run(tmp_path / "run")["layer"].counts()
    write(tmp_path / "run", rows[15_000:], mode="resume")
    layer = open_run(tmp_path / "run")["layer"]
    assert as_dict(layer.histogram(), rows) == count_by_hand(rows)
    assert as_dict(layer.histogram(np.arange(4000) < 900), rows) == count_by_hand(rows[:9000])
    found = layer.histogram(by=np.repeat(["a", "b"], 2000))
    assert as_dict(found["a"], rows) == count_by_hand(rows[:20_000])
    assert found["a"].merge(found["b"]) == layer.histogram()


def test_damage_is_named_on_a_cluster(tmp_path):
    write(tmp_path / "run", np.zeros((40_000, 8), np.uint8))
    (tmp_path / "run/layer/part-0/states/c/3/0").unlink()
    layer = open_run(tmp_path / "run")["layer"]
    for read in (layer.histogram, lambda: layer.histogram(by=np.zeros(4000, int))):
        with pytest.raises(DamagedChunkError, match=r"layer layer, part 0, chunk 3 .*lost"):
            read()
    assert not (tmp_path / "run/layer/histogram").exists()


def test_labels_of_a_run_that_only_this_process_has():
    recorder = StateRecorder("layer")
    recorder.record(np.ones((6, 4, 3)))
    found = recorder.histogram(by=[0, 0, 1, 1, 1, 1])
    assert [found[0].total, found[1].total] == [8, 16]


def test_a_run_behind_a_memory_url():
    rows = np.random.default_rng(0).integers(0, 3, (40_000, 8), dtype=np.uint8)
    write("memory://test-cluster/run", rows)
    run = open_run("memory://test-cluster/run")
    assert as_dict(run["layer"].histogram(), rows) == count_by_hand(rows)
    assert len(run.verify()) == 0
