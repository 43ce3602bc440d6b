"""States that are counted while they are captured: the same counts, and no raw states."""

import json
import subprocess
import sys

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, MemoryStore

from tensorstate.capture import StateRecorder
from tensorstate.counting import count_states, ordered, saving
from tensorstate.storage import DamagedChunkError, LayerInfo, RunWriter, open_run
from tensorstate.storage import live as live_module
from tests.counting.limits import files, make_tiny
from tests.storage.metadata import edit
from tests.storage.stores import FailingStore, ReadingStore, RecordingStore, SnapshotStore
from tests.strategies import as_dict, count_by_hand, reproducible, seeds

WIDTHS = [1, 3, 8, 12, 16, 17, 40]
NEEDS_RAW = "was captured with histogram='live', which keeps no raw states"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Let chunks be as small as the queue asks for, and count as soon as one waits."""
    monkeypatch.setattr("tensorstate.storage.writer._SMALLEST_CHUNK_BYTES", 1)
    monkeypatch.setattr(live_module, "WAITING_CHUNKS", 1)


def random_rows(rows, width, seed=0, distinct=50):
    rng = np.random.default_rng(seed)
    pool = np.random.default_rng(width).integers(0, 256, (distinct, width), dtype=np.uint8)
    return pool[rng.integers(0, distinct, rows)]


def info(width, positions=1, **options):
    return LayerInfo(8 * width, positions, histogram="live", **options)


def open_writer(store, layers, mode="x", chunk_rows=20, **options):
    """Open a run with live layers, given as a dict of names to widths, and small chunks."""
    widest = max(layers.values())
    writer = RunWriter(
        store,
        mode=mode,
        queue_bytes=2 * len(layers) * chunk_rows * widest,
        layers=len(layers),
        **options,
    )
    for name, width in layers.items():
        writer.add_layer(name, info(width))
    return writer


def write(store, rows, mode="x", pieces=7, **options):
    writer = open_writer(store, {"layer": rows.shape[1]}, mode, **options)
    for piece in np.array_split(rows, pieces):
        writer.put("layer", piece)
    writer.close()


def check(layer, rows):
    """Compare everything that follows from a count with the rows."""
    assert layer.state_count == len(rows)
    expected = count_by_hand(rows)
    assert as_dict(layer.histogram(), rows) == expected
    p = np.array([times for times, _ in expected.values()]) / len(rows)
    assert layer.entropy() == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-9)
    assert layer.counts().sum() == len(rows)
    if rows.shape[1] <= 16:
        found = dict(zip(layer.state_ids(), layer.counts().tolist(), strict=True))
        assert found == {state: times for state, (times, _) in expected.items()}
        packed = np.packbits(layer.states, axis=-1, bitorder="little")
        assert [row.tobytes() for row in packed] == layer.state_ids()


def raw_chunks(keys):
    return [key for key in keys if "/states/c/" in key]


def entry_of(run, part="0"):
    facts = json.loads((run / f"layer/part-{part}/states/zarr.json").read_text())
    return run / f"layer/part-{part}/counted" / facts["attributes"]["counted"]["entry"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("distinct", [5, 3000])
def test_counts_are_those_of_stored_states(tmp_path, width, distinct):
    rows = random_rows(2000, width, distinct=distinct)
    write(tmp_path / "run", rows)
    stored = RunWriter(tmp_path / "stored")
    stored.add_layer("layer", LayerInfo(8 * width, 1))
    stored.put("layer", rows)
    stored.close()
    run, expected = open_run(tmp_path / "run"), open_run(tmp_path / "stored")
    assert run.instances == 2000
    check(run["layer"], rows)
    assert run["layer"].histogram() == expected["layer"].histogram()
    assert run.summary().equals(expected.summary())
    # To the byte, however often it was merged.
    count_states(rows).save(tmp_path / "histogram")
    entry = files(entry_of(tmp_path / "run"))
    assert files(tmp_path / "histogram") == {
        name: content for name, content in entry.items() if not name.startswith("spectrum")
    }


@settings(reproducible, max_examples=15)
@given(
    widths=st.tuples(st.sampled_from(WIDTHS), st.sampled_from(WIDTHS)),
    positions=st.integers(1, 3),
    chunk_rows=st.integers(1, 12),
    seed=seeds,
    steps=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "both", "flush", "resume", "read"]), st.integers(1, 9)
        ),
        max_size=25,
    ),
)
def test_whatever_is_put_flushed_read_and_resumed(widths, positions, chunk_rows, seed, steps):
    store = MemoryStore()
    layers = {name: info(width, positions) for name, width in zip("ab", widths, strict=True)}
    put = {name: np.empty((0, layer.width), np.uint8) for name, layer in layers.items()}
    source = {n: random_rows(3000, layer.width, seed, 9) for n, layer in layers.items()}

    def opened(mode):
        writer = RunWriter(store, mode=mode, queue_bytes=4 * chunk_rows * max(widths) + 4, layers=2)
        for name, layer in layers.items():
            writer.add_layer(name, layer)
        return writer

    writer = opened("x")
    for step, count in [*steps, ("resume", 0), ("both", 30), ("close", 0)]:
        if step in ("a", "b", "both"):
            for name in layers if step == "both" else [step]:
                start = len(put[name])
                rows = source[name][start : start + count * positions]
                put[name] = np.concatenate([put[name], rows])
                writer.put(name, rows)
        elif step == "flush":
            writer.flush()
        elif step in ("resume", "close"):
            writer.close()
            committed = min(map(len, put.values()))
            for name in layers:
                # What one layer has more than the other cannot be counted, or it would be twice.
                held = [k for k in raw_chunks(store._store_dict) if k.startswith(f"{name}/")]
                assert bool(held) == (len(put[name]) > committed)
            if step == "resume":
                writer = opened("resume")
                put = {name: rows[:committed] for name, rows in put.items()}
        else:
            writer.flush()
            run = open_run(store)
            assert run.instances == min(map(len, put.values())) // positions
            for name, rows in put.items():
                if len(rows):
                    check(run[name], rows)
    run = open_run(store)
    for name, rows in put.items():
        check(run[name], rows)


def test_what_is_stored_at_any_moment_is_right_and_can_be_resumed():
    rows = {"a": random_rows(100, 3), "b": random_rows(100, 17)}
    store = SnapshotStore()
    writer = open_writer(store, {"a": 3, "b": 17})
    for start in range(0, 100, 25):
        for name, some in rows.items():
            writer.put(name, some[start : start + 25])
        if start == 50:
            writer.flush()
    writer.close()
    first = next(i for i, held in enumerate(store.snapshots) if "zarr.json" in held)
    assert len(store.snapshots) - first > 150
    committed = 0
    for number, snapshot in enumerate(store.snapshots[first:]):
        run = open_run(MemoryStore(dict(snapshot), read_only=True))
        assert run.instances >= committed
        committed = run.instances
        for name, layer in run.items():
            assert layer.state_count >= committed
            if layer.state_count:
                seen = rows[name][: layer.state_count]
                assert as_dict(layer.histogram(), seen) == count_by_hand(seen)
        if number % 9 == 0:
            killed = MemoryStore(dict(snapshot))
            resumed = open_writer(killed, {"a": 3, "b": 17}, "resume")
            for name, some in rows.items():
                resumed.put(name, some[committed:])
            resumed.close()
            for name, layer in open_run(killed).items():
                check(layer, rows[name])
            assert not raw_chunks(killed._store_dict)
            entries = {key.split("/")[3] for key in killed._store_dict if "-0/counted/2" in key}
            assert len(entries) == 2, "something was left of an earlier histogram"
    assert committed == 100


def test_only_what_waits_is_stored(monkeypatch):
    monkeypatch.setattr(live_module, "WAITING_CHUNKS", 3)
    rows = random_rows(4000, 8)
    store = RecordingStore(MemoryStore())
    writer = open_writer(store, {"layer": 8}, chunk_rows=100)
    most = 0
    for piece in np.array_split(rows, 50):
        writer.put("layer", piece)
        writer.flush()
        most = max(most, len(raw_chunks(store._store._store_dict)))
    writer.close()
    assert len(set(raw_chunks(store.keys))) == 40
    assert 2 <= most <= 4
    assert not raw_chunks(store._store._store_dict)
    counted = [key for key in store.keys if key.endswith("spectrum/c/0/0")]
    assert len(counted) == 4000 // 300 + 1


def test_histograms_are_merged_with_as_many_rows_as_they_have_states():
    store = RecordingStore(MemoryStore())
    rows = np.random.default_rng(0).integers(0, 256, (16_000, 8), dtype=np.uint8)
    write(store, rows, chunk_rows=50, pieces=160)
    merges = [key for key in store.keys if key.endswith("spectrum/c/0/0")]
    # All states differ, and an entry takes three times what a row does: each is 4 times as large.
    assert len(merges) == pytest.approx(np.log(16_000 / 100) / np.log(4), abs=2)
    check(open_run(store)["layer"], rows)


@pytest.mark.parametrize("width", [3, 17])
def test_more_states_than_the_memory_limit(tmp_path, monkeypatch, width):
    make_tiny(monkeypatch)
    monkeypatch.setattr(saving, "CHUNK_ENTRIES", 400)
    monkeypatch.setattr(ordered, "ENTRIES_AT_ONCE", 250)
    monkeypatch.setattr(ordered, "PART_ENTRIES", 300)
    rows = random_rows(6000, width, distinct=4000)
    config = {"tensorstate.memory-limit": 20_000, "tensorstate.spill": str(tmp_path / "spill")}
    with dask.config.set(config):
        write(tmp_path / "run", rows, chunk_rows=300, pieces=12)
        layer = open_run(tmp_path / "run")["layer"]
        assert layer.histogram().is_stored
        assert layer.histogram().origin == str(entry_of(tmp_path / "run"))
    assert not list((tmp_path / "spill").iterdir())
    check(open_run(tmp_path / "run")["layer"], rows)


def test_a_capture_says_the_same_while_it_records(tmp_path):
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(30, 4, 20))
    x = pool[rng.integers(0, 30, 500)]
    rows = np.packbits(x > 0, axis=-1, bitorder="little").reshape(2000, -1)
    for path in (None, tmp_path / "run"):
        recorder = StateRecorder("layer", path, histogram="live", queue_bytes=500)
        for start in range(0, 500, 50):
            recorder.record(x[start : start + 50])
            check(recorder, rows[: 4 * (start + 50)])
            assert recorder.instance_count == start + 50
        recorder.close()
        check(recorder, rows)
        # A run that ends with this process does not keep them either.
        assert not recorder._writer.reader("layer")._array.nchunks_initialized


NEEDS_ROWS = {
    "raw_states": lambda layer: layer.raw_states,
    "counts": lambda layer: layer.counts([0, 1]),
    "mask": lambda layer: layer.histogram(np.ones(100, bool)),
    "labels": lambda layer: layer.histogram(by=np.arange(100)),
    "states": lambda layer: layer.states,
    "state_ids": lambda layer: layer.state_ids(),
    "neurons": lambda layer: layer.firing_counts(),
    "interval": lambda layer: layer.entropy_interval(),
}


@pytest.mark.parametrize("refused", NEEDS_ROWS.values(), ids=NEEDS_ROWS)
def test_what_needs_raw_states_is_refused(tmp_path, refused):
    rows = random_rows(100, 17)
    write(tmp_path / "run", rows)
    recorder = StateRecorder("layer", histogram="live")
    recorder.record(np.unpackbits(rows, axis=-1, bitorder="little"))
    for layer in (open_run(tmp_path / "run")["layer"], recorder):
        with pytest.raises(ValueError, match=f"layer 'layer' {NEEDS_RAW}: .*='stored'"):
            refused(layer)
        assert (layer.state_count, layer.instance_count) == (100, 100)
        check(layer, rows)


def test_a_run_does_not_change_its_kind(tmp_path):
    rows = random_rows(50, 3)
    write(tmp_path / "live", rows)
    writer = RunWriter(tmp_path / "live", mode="resume")
    says = "histogram='live', but is to go on with histogram='stored'"
    with pytest.raises(ValueError, match=says):
        writer.add_layer("layer", LayerInfo(24, 1))
    writer.close()
    stored = RunWriter(tmp_path / "stored", part="a", first_instance=0)
    stored.add_layer("layer", LayerInfo(24, 1))
    other = RunWriter(tmp_path / "stored", part="b", first_instance=100)
    with pytest.raises(ValueError, match="histogram='stored', but is to go on with"):
        other.add_layer("layer", info(3))
    stored.close()
    other.close()
    check(open_run(tmp_path / "live")["layer"], rows)


def test_layers_that_do_not_say_their_kind_are_stored(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.add_layer("layer", LayerInfo(24, 1))
    writer.put("layer", random_rows(50, 3))
    writer.close()
    document = tmp_path / "run/layer/zarr.json"
    edit(document, lambda attributes: attributes.pop("histogram"))
    assert len(open_run(tmp_path / "run")["layer"].raw_states) == 50
    edit(document, lambda attributes: attributes.update(histogram="sketched"))
    with pytest.raises(ValueError, match="layer layer has an unknown histogram 'sketched'"):
        open_run(tmp_path / "run")
    with pytest.raises(ValueError, match="unknown histogram 'sketched': choose one of 'stored'"):
        StateRecorder("layer", histogram="sketched")


def test_parts_of_several_writers(tmp_path):
    rows = random_rows(3000, 17)
    store = ReadingStore(LocalStore(tmp_path / "run"))
    shards = {"b": (1000, 2500), "a": (0, 1000), "c": (2500, 3000)}
    for part, (start, stop) in shards.items():
        half = (start + stop) // 2
        for mode, begin, end in [("x", start, half), ("resume", half, stop)]:
            options = {"part": part, "first_instance": start, "chunk_rows": 150}
            write(store, rows[begin:end], mode, **options)
            run = open_run(store)
            seen = np.concatenate([rows[r.start : r.stop] for r in sorted_ranges(run)])
            check(run["layer"], seen)
    assert not raw_chunks(files(tmp_path / "run"))
    # What was merged once is cached, and a part that is written anew is counted anew.
    expected = open_run(store).summary()
    store.keys.clear()
    assert open_run(store).summary().equals(expected)
    assert not [key for key in store.keys if "/counted/" in key]
    other = random_rows(1000, 17, seed=1)
    write(store, other, "w", part="a", first_instance=0)
    check(open_run(store)["layer"], np.concatenate([other, rows[1000:]]))


def sorted_ranges(run):
    return sorted(run.parts.values(), key=lambda r: r.start)


def test_a_capture_that_is_reset(tmp_path):
    rows = random_rows(600, 3)
    x = np.unpackbits(rows, axis=-1, bitorder="little")
    recorder = StateRecorder("layer", tmp_path / "run", histogram="live", queue_bytes=200)
    recorder.record(x)
    check(recorder, rows)
    recorder.reset_states()
    assert recorder.state_count == 0
    assert not list((tmp_path / "run/layer/part-0/counted").glob("2*"))
    recorder.record(x[:100])
    check(recorder, rows[:100])
    recorder.close()
    check(open_run(tmp_path / "run")["layer"], rows[:100])


@pytest.mark.parametrize(
    "options", [{}, {"part": 0, "first_instance": 0}], ids=["alone", "of one part"]
)
def test_a_layer_that_fell_back_behind_what_another_has_counted(tmp_path, options):
    rows = random_rows(600, 3)
    writer = open_writer(tmp_path / "run", {"a": 3, "b": 3}, **options)
    for name in "ab":
        writer.put(name, rows)
    writer.reset("a")
    writer.put("a", rows[:50])
    writer.close()
    run = open_run(tmp_path / "run")
    assert run.instances == 50
    check(run["a"], rows[:50])
    check(run["b"], rows)
    writer = RunWriter(tmp_path / "run", mode="resume", layers=2, **options)
    with pytest.raises(ValueError, match=r"layer b, part 0 has counted and dropped 600 rows.*'w'"):
        writer.add_layer("b", info(3))
    writer.close()
    check(open_run(tmp_path / "run")["b"], rows)


@pytest.mark.parametrize("chunks", [0, 3, 5, 10])
def test_a_disk_that_is_full_when_histograms_are_merged(tmp_path, chunks):
    rows = random_rows(2000, 17, distinct=400)
    store = FailingStore(LocalStore(tmp_path / "run"), chunks, "/counted/")
    writer = open_writer(store, {"layer": 17})
    says = r"stopped, \d+ instances are committed: OSError.*No space left"
    with pytest.raises(OSError, match=says):  # noqa: PT012
        for piece in np.array_split(rows, 100):
            writer.put("layer", piece)
            writer.flush()
    with pytest.raises(OSError, match=says):
        writer.close()
    run = open_run(tmp_path / "run")
    committed = run.instances
    assert committed
    check(run["layer"], rows[:committed])
    folder = tmp_path / "run/layer/part-0/counted"
    assert len(list(folder.glob("2*"))) == min(chunks // 4, 1), "something incomplete was left"
    write(tmp_path / "run", rows[committed:], "resume")
    check(open_run(tmp_path / "run")["layer"], rows)


def test_damage_is_told(tmp_path):
    rows = random_rows(500, 3)
    write(tmp_path / "run", rows)
    keys = entry_of(tmp_path / "run") / "keys/c/0"
    content = bytearray(keys.read_bytes())
    content[len(content) // 2] ^= 1
    keys.write_bytes(content)
    says = "run .*, layer layer, part 0: the counts of its first 500 rows"
    with pytest.raises(DamagedChunkError, match=says):
        open_run(tmp_path / "run")["layer"].histogram()
    keys.unlink()
    with pytest.raises(DamagedChunkError, match=says):
        open_run(tmp_path / "run")["layer"].histogram()
    document = tmp_path / "run/layer/part-0/states/zarr.json"
    for counted, message in [
        ({"rows": 9}, "says .* of counted rows: its metadata is damaged"),
        (
            {"entry": "x", "rows": 501, "distinct": 3},
            "501 rows are counted, but 500 are committed",
        ),
    ]:
        edit(document, lambda attributes, counted=counted: attributes.update(counted=counted))
        with pytest.raises(ValueError, match=f"layer layer, part 0.*{message}"):
            open_run(tmp_path / "run")


def test_what_was_counted_is_verified(tmp_path):
    rows = random_rows(500, 3)
    write(tmp_path / "run", rows[:300], part="a", first_instance=0)
    writer = open_writer(tmp_path / "run", {"layer": 3, "other": 3}, part="b", first_instance=300)
    writer.put("layer", rows[300:])
    writer.put("other", rows[300:450])
    writer.close()
    run = open_run(tmp_path / "run")
    assert run.verify().empty
    with pytest.raises(ValueError, match=r"layer was captured with histogram='live'.*salvage"):
        run.salvage(tmp_path / "salvaged")
    assert not (tmp_path / "salvaged").exists()
    # Of the part, 50 instances are not counted, since the other layer lacks them.
    left = sorted((tmp_path / "run/layer/part-b/states/c").iterdir())
    (left[-1] / "0").unlink()
    (entry_of(tmp_path / "run", "a") / "counts/c/0").unlink()
    damage = open_run(tmp_path / "run").verify()
    found = damage[["layer", "part", "first_instance", "last_instance"]].values.tolist()
    chunk_rows = 20
    assert found == [
        ["layer", "a", 0, 299],
        ["layer", "b", 300 + (200 - 1) // chunk_rows * chunk_rows, 499],
    ]
    assert "the counts of its first 300 rows" in damage["problem"][0]


def test_a_run_is_verified_while_it_is_written(tmp_path):
    rows = random_rows(500, 3)
    writer = open_writer(tmp_path / "run", {"layer": 3}, chunk_rows=100)
    writer.put("layer", rows[:150])
    writer.flush()
    run = open_run(tmp_path / "run")
    writer.put("layer", rows[150:])
    writer.close()
    # Both the counts and the chunk that it knows of have been replaced.
    assert run.verify().empty


def test_readers_follow_a_writer_until_it_has_counted_what_they_do_not_know(tmp_path):
    rows = random_rows(1000, 3)
    writer = open_writer(tmp_path / "run", {"layer": 3}, chunk_rows=100)
    writer.put("layer", rows[:150])
    writer.flush()
    early = open_run(tmp_path / "run")["layer"]
    parts = early._parts()
    assert 0 < parts[0].counted.rows <= 150
    writer.put("layer", rows[150:190])
    writer.flush()
    later = open_run(tmp_path / "run")["layer"]
    writer.close()  # counts what `later` could still read
    check(later, rows[:190])
    with pytest.raises(ValueError, match=r"had 150 rows when it was opened, and 190 .* again"):
        early.histogram()
    check(open_run(tmp_path / "run")["layer"], rows[:190])


def test_counting_leaves_the_schedulers_of_others_alone():
    def refuse(*_, **__):
        raise AssertionError("the writer's thread has asked a scheduler")

    rows = random_rows(2000, 8)
    with dask.config.set(scheduler=refuse):
        store = MemoryStore()
        write(store, rows)
        assert not raw_chunks(store._store_dict)
    check(open_run(store)["layer"], rows)


def test_a_process_that_ends_without_closing(tmp_path):
    program = (
        "import sys, numpy as np, tensorstate as ts\n"
        "recorder = ts.StateRecorder('layer', sys.argv[1], histogram='live')\n"
        "recorder.record(np.random.default_rng(0).normal(size=(5000, 3)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    subprocess.run(command, check=True, timeout=120)
    layer = open_run(tmp_path / "run")["layer"]
    x = np.random.default_rng(0).normal(size=(5000, 3))
    check(layer, np.packbits(x > 0, axis=-1, bitorder="little"))
    assert not raw_chunks(files(tmp_path / "run"))
