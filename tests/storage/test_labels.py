"""Counting by label within a memory limit: in one pass, or label after label, all the same."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from tensorstate.counting import plan
from tensorstate.storage import LayerInfo, RunWriter, labels, open_run
from tests.counting.limits import make_tiny
from tests.storage.stores import ReadingStore
from tests.storage.test_selection import by_hand, instances_of, run_of, runs
from tests.strategies import as_dict, reproducible


@reproducible
@given(st.data())
def test_both_ways_give_the_same(data):
    layer, rows = data.draw(runs())
    n = layer.instance_count
    of_instances = data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    instances = data.draw(instances_of(layer))
    together = layer.histogram(instances, by=of_instances, memory_limit="4 GiB")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "_count_together", None)
        patch.setattr(labels, "_most_rows", lambda *what: -1)
        in_turn = layer.histogram(instances, by=of_instances, memory_limit="4 GiB")
    assert list(together) == list(in_turn)
    assert together == in_turn
    chosen = np.arange(n)[instances]
    for label, histogram in in_turn.items():
        own = [i for i in chosen if of_instances[i] == label]
        assert as_dict(histogram, rows) == by_hand(rows, layer.positions, own)


@pytest.fixture
def stored():
    """600 instances of 10 rows in 12 chunks, 100 states, and three labels in every chunk."""
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 256, (100, 9), dtype=np.uint8)[rng.integers(0, 100, 6000)]
    return ReadingStore(MemoryStore()), rows, np.arange(600) % 3


def test_the_limit_decides_how_often_chunks_are_read(stored, tmp_path, monkeypatch):
    make_tiny(monkeypatch)
    store, rows, by = stored
    layer = open_run(run_of([rows], 10, 500, store))["layer"]
    found = {}
    for limit, reads in ((40_000, 3), (10_000_000, 1)):
        store.chunks()
        found[limit] = layer.histogram(by=by, memory_limit=limit, spill=tmp_path / "spill")
        assert len(store.chunks()) == 12 * reads
        assert as_dict(found[limit][1], rows) == by_hand(rows, 10, np.flatnonzero(by == 1))
    assert found[40_000] == found[10_000_000] == layer.histogram(by=by)
    # What was too large for the limit went to files, and came back.
    assert (tmp_path / "spill").exists()
    assert not list((tmp_path / "spill").iterdir())


def test_blocks_are_as_small_as_the_limit_asks(stored, monkeypatch):
    make_tiny(monkeypatch)
    store, rows, by = stored
    layer = open_run(run_of([rows], 10, 500, store))["layer"]
    sizes = []
    count = labels._count_block
    monkeypatch.setattr(
        labels, "_count_block", lambda b, *codes: sizes.append(sum(map(len, b))) or count(b, *codes)
    )
    for limit in (800_000, 1_600_000, 100_000_000):
        sizes.append(0)
        layer.histogram(by=by, memory_limit=limit)
    cuts = [i for i, size in enumerate(sizes) if size == 0]
    largest = [max(part) for part in np.split(sizes, cuts[1:])]
    assert 500 <= largest[0] < largest[1] < largest[2] == 6000


def test_results_that_leave_no_room_for_the_next_label(monkeypatch):
    make_tiny(monkeypatch)
    monkeypatch.setattr(plan, "PROCESS_BYTES", 50_000)
    rows = np.random.default_rng(0).integers(0, 256, (1000, 8), dtype=np.uint8)
    layer = open_run(run_of([rows], 1, 1000))["layer"]
    with pytest.raises(
        ValueError, match=r"histograms of \d labels take .* to count label 5: raise"
    ):
        layer.histogram(by=np.arange(1000) // 100, memory_limit=65_000)
    with pytest.raises(ValueError, match=r"^a memory limit of .* is too small"):
        layer.histogram(by=np.arange(1000) // 100, memory_limit=5_000)


MEASURED = """
import sys
import dask, numpy as np
from tensorstate.storage import labels, open_run
from tests.counting.limits import resident

path, limit, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
called = []
for name in ("_count_together", "_count_in_turn"):
    def spy(*what, count=getattr(labels, name), name=name):
        called.append(name)
        return count(*what)
    setattr(labels, name, spy)
layer = open_run(path)["layer"]
by = np.arange(layer.instance_count) * 2654435761 % 2**32 % 4
with dask.config.set(scheduler="threads", num_workers=2):
    before = resident("VmRSS")
    found = layer.histogram(by=by, memory_limit=limit)
peak = resident("VmHWM") - before
assert called == [way]
assert sum(histogram.total for histogram in found.values()) == layer.state_count
print(peak)
"""


@pytest.mark.parametrize(
    ("distinct", "megabytes", "way"),
    [(2_000_000, 360, "_count_together"), (100_000, 150, "_count_in_turn")],
)
def test_peak_memory_stays_within_the_limit(distinct, megabytes, way, tmp_path):
    pool = np.random.default_rng(1).integers(0, 2**64, (distinct, 2), dtype=np.uint64)
    writer = RunWriter(tmp_path / "run", queue_bytes=16 << 20)
    writer.add_layer("layer", LayerInfo(128, 100))
    for _ in range(2_000_000 // distinct):
        writer.put("layer", pool.view(np.uint8))
    writer.close()
    limit = megabytes << 20
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path / "run", str(limit), way],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert 0.2 * limit < int(done.stdout) < 1.1 * limit
