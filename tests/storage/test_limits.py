"""Counts of a run in bounded memory: cached, continued and renumbered, whatever their size."""

import gc
import json
import shutil

import dask
import numpy as np
import pytest
from zarr.storage import LocalStore

from tensorstate.counting import count_states, ordered, saving
from tensorstate.storage import LayerInfo, RunWriter, open_run
from tensorstate.storage.cache import HistogramCache
from tests.counting.limits import files, make_tiny
from tests.storage.metadata import as_before_checksums, edit
from tests.storage.stores import ReadingStore
from tests.strategies import as_dict, count_by_hand

WIDTHS = [3, 12, 40]
LIMIT = 20_000


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    make_tiny(monkeypatch)
    monkeypatch.setattr("tensorstate.storage.writer._SMALLEST_CHUNK_BYTES", 1)
    monkeypatch.setattr(saving, "CHUNK_ENTRIES", 400)
    monkeypatch.setattr(ordered, "ENTRIES_AT_ONCE", 250)
    monkeypatch.setattr(ordered, "PART_ENTRIES", 300)


def random_rows(rows, width, seed=0):
    rng = np.random.default_rng(seed)
    pool = np.random.default_rng(width).integers(0, 256, (4000, width), dtype=np.uint8)
    return pool[rng.integers(0, len(pool), rows)]


def write(store, rows, mode="x", name="layer"):
    writer = RunWriter(store, mode=mode, queue_bytes=300 * rows.shape[1])
    writer.add_layer(name, LayerInfo(8 * rows.shape[1], 1))
    writer.put(name, rows)
    writer.close()


def entry_of(run):
    folder = run / "layer/histogram"
    facts = json.loads((folder / "zarr.json").read_text())["attributes"]["tensorstate_cache"]
    return folder / facts["entry"]


@pytest.fixture(params=WIDTHS)
def rows(request):
    return random_rows(6000, request.param)


def test_after_more_rows_what_is_in_memory_stays_small(rows, tmp_path):
    store = ReadingStore(LocalStore(tmp_path / "run"))
    limits = {"memory_limit": LIMIT, "spill": tmp_path / "spill"}
    write(store, rows[:3000])
    first = open_run(store)["layer"].histogram(**limits)
    assert first.is_stored
    assert as_dict(first, rows) == count_by_hand(rows[:3000])
    cached = open_run(store)["layer"].histogram(**limits)
    assert cached.is_stored
    assert cached.origin == str(entry_of(tmp_path / "run"))
    assert cached == first
    write(store, rows[3000:], mode="resume")
    layer = open_run(store)["layer"]
    length = layer.raw_states._parts[0].chunks[0]
    store.chunks()
    found = layer.histogram(**limits)
    read = {int(key.split("/")[-2]) for key in store.chunks()}
    assert read == set(range(3000 // length, -(-6000 // length)))
    assert found.is_stored
    assert found.origin is None
    assert as_dict(found, rows) == count_by_hand(rows)
    # Who is left with what was replaced in the cache is told.
    with pytest.raises(ValueError, match="is damaged: chunk 0 is missing"):
        cached.keys  # noqa: B018
    # What is cached is what counting everything in memory gives.
    write(tmp_path / "other", rows)
    open_run(tmp_path / "other")["layer"].histogram()
    assert files(entry_of(tmp_path / "other")) == files(entry_of(tmp_path / "run"))
    del first, found, layer
    gc.collect()
    assert not list((tmp_path / "spill").iterdir())


def test_the_limit_of_the_configuration_counts_too(rows, tmp_path):
    config = {"tensorstate.memory-limit": LIMIT, "tensorstate.spill": str(tmp_path / "spill")}
    whole = count_states(rows)
    with dask.config.set(config):
        for half, mode in ((rows[:3000], "x"), (rows[3000:], "resume")):
            write(tmp_path / "run", half, mode=mode)
            assert open_run(tmp_path / "run")["layer"].histogram().is_stored
        layer = open_run(tmp_path / "run")["layer"]
        assert layer.histogram().origin
        assert layer.counts().tolist() == whole.sorted().counts.tolist()
        assert layer.state_ids() == [rows[i].tobytes() for i in whole.sorted().first_rows]
        assert layer.entropy(2) == pytest.approx(whole.entropy(2), rel=1e-12)
    assert open_run(tmp_path / "run")["layer"].histogram() == whole


def test_several_parts_that_grow_are_numbered_anew(tmp_path):
    parts = np.split(random_rows(9000, 5), 3)

    def store(lengths):
        for number, length in enumerate(lengths):
            array = tmp_path / f"run/layer/part-{number}/states/zarr.json"
            changes = {"rows": length, "first_instance": 10_000 * number}
            edit(array, lambda attributes, changes=changes: attributes.update(changes))

    write(tmp_path / "run", parts[0])
    for number in (1, 2):
        write(tmp_path / f"other-{number}", parts[number])
        shutil.move(
            tmp_path / f"other-{number}/layer/part-0", tmp_path / f"run/layer/part-{number}"
        )
    as_before_checksums(tmp_path / "run")
    for lengths in ([900, 0, 700], [900, 20, 700], [1900, 20, 3000], [1901, 3000, 3000]):
        store(lengths)
        rows = np.concatenate([part[:n] for part, n in zip(parts, lengths, strict=True)])
        for _ in range(2):
            layer = open_run(tmp_path / "run")["layer"]
            found = layer.histogram(memory_limit=LIMIT, spill=tmp_path / "spill")
            assert found.is_stored
            assert found == count_states(rows)
            del found, layer


def test_a_part_without_rows_moves_the_cached_count(rows, tmp_path):
    write(tmp_path / "run", rows)
    open_run(tmp_path / "run")["layer"].histogram()
    old = entry_of(tmp_path / "run")
    write(tmp_path / "other", rows)
    shutil.move(tmp_path / "other/layer/part-0", tmp_path / "run/layer/part-1")
    array = tmp_path / "run/layer/part-1/states/zarr.json"
    as_before_checksums(tmp_path / "run")
    edit(array, lambda attributes: attributes.update(rows=0, first_instance=6000))
    layer = open_run(tmp_path / "run")["layer"]
    found = layer.histogram(memory_limit=LIMIT)
    assert not old.exists()
    assert found.origin == str(entry_of(tmp_path / "run"))
    assert found == count_states(rows)


@pytest.mark.parametrize("name", saving.NAMES)
@pytest.mark.parametrize("harm", ["flipped", "missing"])
def test_a_damaged_cache_is_ignored(rows, tmp_path, name, harm):
    write(tmp_path / "run", rows)
    open_run(tmp_path / "run")["layer"].histogram()
    chunk = entry_of(tmp_path / "run") / name / "c" / "5"
    chunk = chunk if chunk.is_file() else chunk / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 4
    chunk.unlink() if harm == "missing" else chunk.write_bytes(content)
    found = open_run(tmp_path / "run")["layer"].histogram(memory_limit=LIMIT)
    assert found.origin is None
    assert as_dict(found, rows) == count_by_hand(rows)
    again = open_run(tmp_path / "run")["layer"].histogram(memory_limit=LIMIT)
    assert again.origin
    assert again == found


def test_a_cache_that_is_replaced_in_the_middle(rows, tmp_path, monkeypatch):
    write(tmp_path / "run", rows[:3000])
    open_run(tmp_path / "run")["layer"].histogram()
    write(tmp_path / "run", rows[3000:], mode="resume")
    load = HistogramCache.load

    def load_and_lose(self, *args):
        found = load(self, *args)
        shutil.rmtree(tmp_path / "run/layer/histogram")
        return found

    monkeypatch.setattr(HistogramCache, "load", load_and_lose)
    found = open_run(tmp_path / "run")["layer"].histogram(
        memory_limit=LIMIT, spill=tmp_path / "spill"
    )
    assert as_dict(found, rows) == count_by_hand(rows)
    del found
    gc.collect()
    assert not list((tmp_path / "spill").iterdir())


def test_the_cache_may_be_deleted_at_any_time(rows, tmp_path):
    write(tmp_path / "run", rows)
    open_run(tmp_path / "run")["layer"].histogram()
    layer = open_run(tmp_path / "run")["layer"]
    whole = count_states(rows)
    for _ in range(2):
        assert layer.histogram(memory_limit=LIMIT) == whole
        shutil.rmtree(tmp_path / "run/layer/histogram")
