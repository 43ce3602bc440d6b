"""Cached counts: they save every read, and are never believed where they could be wrong."""

import json
import shutil
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, ZipStore

from tensorstate.capture import StateRecorder
from tensorstate.storage import DamagedChunkError, LayerInfo, RunWriter, open_run
from tests.storage.metadata import as_before_checksums, edit, set_attributes
from tests.storage.stores import LockedStore, ReadingStore
from tests.strategies import as_dict, count_by_hand, seeds

WIDTHS = [3, 12, 40]


def random_rows(rows, width, seed=0, distinct=200):
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 256, (distinct, width), dtype=np.uint8)
    return pool[rng.integers(0, distinct, rows)]


def write(store, rows, positions=2, mode="x", name="layer"):
    """Write rows in chunks of 64 KiB."""
    writer = RunWriter(store, mode=mode, queue_bytes=64 << 10)
    writer.add_layer(name, LayerInfo(8 * rows.shape[1], positions))
    writer.put(name, rows)
    writer.close()


def check(layer, rows):
    """Compare everything that follows from a count with the rows."""
    expected = count_by_hand(rows)
    histogram = layer.histogram()
    assert as_dict(histogram, rows) == expected
    assert dict(zip(layer.state_ids(), layer.counts().tolist(), strict=True)) == {
        state: times for state, (times, _) in expected.items()
    }
    p = np.array([times for times, _ in expected.values()]) / len(rows)
    assert layer.entropy() == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-9)


def cached_entries(path):
    """Names of the entries, the published one first."""
    folder = path / "layer/histogram"
    facts = json.loads((folder / "zarr.json").read_text())["attributes"]["tensorstate_cache"]
    names = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    assert facts["entry"] in names
    return [facts["entry"], *(names - {facts["entry"]})]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_second_count_reads_nothing_but_the_cache(width):
    rows = random_rows(30_000, width)
    store = ReadingStore(MemoryStore())
    write(store, rows)
    first = open_run(store)["layer"].histogram()
    assert store.chunks()
    layer = open_run(store)["layer"]
    store.keys.clear()
    assert layer.histogram() == first
    assert layer.counts().sum() == len(rows)
    layer.efficiency()
    assert store.keys
    assert all(key.startswith("layer/histogram/") for key in store.keys)
    check(layer, rows)


@pytest.mark.parametrize("width", WIDTHS)
def test_entropy_and_summary_read_only_the_spectrum(width):
    rows = random_rows(30_000, width)
    store = ReadingStore(MemoryStore())
    write(store, rows)
    expected = open_run(store).summary()
    run = open_run(store)
    store.keys.clear()
    assert run.summary().equals(expected)
    layer = open_run(store)["layer"]
    assert layer.entropy() == expected.loc["layer", "entropy"]
    assert layer.efficiency(2) == layer.entropy(2) / layer.neurons
    read = [key for key in store.keys if "/c/" in key]
    assert read
    assert all("/spectrum/c/" in key for key in read)
    assert layer.spectrum()[1].sum() == expected.loc["layer", "distinct"]


def test_another_process_reads_the_cache(tmp_path):
    rows = random_rows(5000, 9)
    write(tmp_path / "run", rows)
    program = (
        "import sys, tensorstate as ts; layer = ts.open_run(sys.argv[1])['layer']; "
        "print(layer.entropy(), layer.histogram().distinct)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shutil.rmtree(tmp_path / "run/layer/part-0/states/c")
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert first == again
    assert open_run(tmp_path / "run")["layer"].histogram().total == 5000


@pytest.mark.parametrize("width", WIDTHS)
def test_after_more_rows_only_these_are_read(width):
    rows = random_rows(60_000, width)
    store = ReadingStore(MemoryStore())
    write(store, rows[:40_000])
    open_run(store)["layer"].histogram()
    write(store, rows, mode="resume")  # the first 40,000 are there already: 100,000 in all
    layer = open_run(store)["layer"]
    length = layer.raw_states._parts[0].chunks[0]
    store.chunks()
    histogram = layer.histogram()
    new = range(40_000 // length, -(-100_000 // length))
    assert sorted(store.chunks()) == sorted(f"layer/part-0/states/c/{i}/0" for i in new)
    everything = np.concatenate([rows[:40_000], rows])
    assert as_dict(histogram, everything) == count_by_hand(everything)
    again = open_run(store)["layer"]
    check(again, everything)
    # and the order is the same as if all had been counted at once
    other = MemoryStore()
    write(other, everything)
    assert np.array_equal(open_run(other)["layer"].histogram().keys, again.histogram().keys)


def test_several_parts_that_grow_are_numbered_anew(tmp_path):
    parts = np.split(random_rows(9000, 5), 3)

    def store(lengths):
        for number, length in enumerate(lengths):
            array = tmp_path / f"run/layer/part-{number}/states/zarr.json"
            changes = {"rows": length, "first_instance": 10_000 * number}
            edit(array, lambda attributes, changes=changes: attributes.update(changes))

    write(tmp_path / "run", parts[0], positions=1)
    for number in (1, 2):
        write(tmp_path / f"other-{number}", parts[number], positions=1)
        shutil.move(
            tmp_path / f"other-{number}/layer/part-0", tmp_path / f"run/layer/part-{number}"
        )
    as_before_checksums(tmp_path / "run")
    for lengths in ([10, 0, 700], [10, 20, 700], [900, 20, 3000], [901, 3000, 3000]):
        store(lengths)
        rows = np.concatenate([part[:n] for part, n in zip(parts, lengths, strict=True)])
        check(open_run(tmp_path / "run")["layer"], rows)
        check(open_run(tmp_path / "run")["layer"], rows)
    # In another order, first rows change: nothing is taken from the cache.
    store([901, 3000, 3000])
    array = tmp_path / "run/layer/part-0/states/zarr.json"
    edit(array, lambda attributes: attributes.update(first_instance=50_000))
    check(open_run(tmp_path / "run")["layer"], np.concatenate([parts[1], parts[2], parts[0][:901]]))


def test_a_run_that_was_written_anew_is_counted_anew(tmp_path):
    for seed in range(3):
        rows = random_rows(4000, 6, seed)
        write(tmp_path / "run", rows, mode="w" if seed else "x")
        check(open_run(tmp_path / "run")["layer"], rows)


def test_a_cache_of_another_run_is_not_believed(tmp_path):
    for number in range(2):
        rows = random_rows(4000, 6, number)
        write(tmp_path / f"run-{number}", rows)
        check(open_run(tmp_path / f"run-{number}")["layer"], rows)
    shutil.rmtree(tmp_path / "run-1/layer/histogram")
    shutil.copytree(tmp_path / "run-0/layer/histogram", tmp_path / "run-1/layer/histogram")
    check(open_run(tmp_path / "run-1")["layer"], random_rows(4000, 6, 1))


def test_rows_that_a_resumed_run_drops_are_not_counted(tmp_path):
    rows = random_rows(4000, 6)
    write(tmp_path / "run", rows)
    check(open_run(tmp_path / "run")["layer"], rows)
    # As if another layer had lagged behind at a crash.
    edit(tmp_path / "run/zarr.json", lambda attributes: attributes.update(instances=1500))
    later = random_rows(1000, 6, seed=1)
    write(tmp_path / "run", later, mode="resume")
    check(open_run(tmp_path / "run")["layer"], np.concatenate([rows[:3000], later]))


def test_a_layer_that_was_reset(tmp_path):
    rows = random_rows(2000, 6)
    x = np.unpackbits(rows, axis=-1, bitorder="little").astype(np.float32)
    recorder = StateRecorder("layer", tmp_path / "run")
    recorder.record(x)
    check(recorder, rows)
    recorder.reset_states()
    recorder.record(x[::-1])
    check(recorder, rows[::-1])
    recorder.close()
    check(open_run(tmp_path / "run")["layer"], rows[::-1])


def test_what_a_capture_counts_is_there_for_others(tmp_path):
    rows = random_rows(2000, 6)
    x = np.unpackbits(rows, axis=-1, bitorder="little").astype(np.float32)
    store = ReadingStore(LocalStore(tmp_path / "run"))
    recorder = StateRecorder("layer", store)
    for end in (700, 2000):
        recorder.record(x[0 if end == 700 else 700 : end])
        check(recorder, rows[:end])
        check(open_run(store)["layer"], rows[:end])
        store.chunks()
        assert open_run(store)["layer"].histogram() == recorder.histogram()
        assert not store.chunks()
    recorder.close()


def test_an_older_view_does_not_replace_a_later_cache(tmp_path):
    rows = random_rows(4000, 6)
    write(tmp_path / "run", rows)
    before = open_run(tmp_path / "run")["layer"]
    write(tmp_path / "run", rows, mode="resume")
    check(open_run(tmp_path / "run")["layer"], np.concatenate([rows, rows]))
    entries = cached_entries(tmp_path / "run")
    check(before, rows)
    assert cached_entries(tmp_path / "run") == entries


def test_only_the_latest_entry_is_kept(tmp_path):
    rows = random_rows(3000, 6)
    write(tmp_path / "run", rows)
    open_run(tmp_path / "run")["layer"].counts()
    folder = tmp_path / "run/layer/histogram"
    (folder / "20010101T000000-left-by-a-killed-process/keys").mkdir(parents=True)
    (folder / "99990101T000000-another-process-is-at-it").mkdir()
    first = cached_entries(tmp_path / "run")[0]
    write(tmp_path / "run", rows, mode="resume")
    open_run(tmp_path / "run")["layer"].counts()
    entries = cached_entries(tmp_path / "run")
    assert first not in entries
    assert entries[1:] == ["99990101T000000-another-process-is-at-it"]


def damage_everything(folder):
    """Yield once for each file of a cache after it was damaged in each way."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        for changed in (content[: len(content) // 2], b"", bytes(flipped), b"{}", None):
            yield path, changed


@pytest.mark.parametrize("width", WIDTHS)
def test_a_damaged_cache_is_ignored(tmp_path, width):
    rows = random_rows(300, width, distinct=20)
    write(tmp_path / "run", rows)
    expected = open_run(tmp_path / "run")["layer"].histogram()
    folder = tmp_path / "run/layer/histogram"
    shutil.copytree(folder, tmp_path / "whole")
    damaged = 0
    for path, content in list(damage_everything(folder)):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "whole", folder)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        layer = open_run(tmp_path / "run")["layer"]
        assert layer.entropy() == pytest.approx(expected.entropy(), abs=1e-12)
        assert layer.histogram() == expected
        assert open_run(tmp_path / "run")["layer"].histogram() == expected
        damaged += 1
    assert damaged > 40


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"total": 299},
        {"distinct": 19},
        {"width": 4},
        {"entry": "nothing"},
        {"entry": 7},
        {"parts": "all"},
        {"parts": []},
        {"parts": [{"uuid": "", "rows": 300}]},
        {"parts": None},
    ],
)
def test_a_cache_that_claims_something_else_is_ignored(tmp_path, change):
    rows = random_rows(300, 3, distinct=20)
    write(tmp_path / "run", rows)
    check(open_run(tmp_path / "run")["layer"], rows)
    path = tmp_path / "run/layer/histogram/zarr.json"
    document = json.loads(path.read_text())
    document["attributes"]["tensorstate_cache"].update(change)
    path.write_text(json.dumps(document))
    check(open_run(tmp_path / "run")["layer"], rows)
    document["attributes"]["tensorstate_cache"] = "counted"
    path.write_text(json.dumps(document))
    check(open_run(tmp_path / "run")["layer"], rows)


@pytest.mark.parametrize("what", ["entry", "spectrum", "attribute", "forged attribute"])
def test_a_damaged_cache_is_counted_again_with_a_warning(tmp_path, what):
    rows = random_rows(300, 3, distinct=20)
    write(tmp_path / "run", rows)
    check(open_run(tmp_path / "run")["layer"], rows)
    entry = tmp_path / "run/layer/histogram" / cached_entries(tmp_path / "run")[0]
    if what in ("entry", "spectrum"):
        # Whole, of as many states, and of another run.
        write(tmp_path / "other", random_rows(300, 3, seed=1, distinct=20))
        check(open_run(tmp_path / "other")["layer"], random_rows(300, 3, seed=1, distinct=20))
        other = tmp_path / "other/layer/histogram" / cached_entries(tmp_path / "other")[0]
        names = ["keys", "counts", "first_rows", "zarr.json"] if what == "entry" else ["spectrum"]
        for name in names:
            shutil.rmtree(entry / name, ignore_errors=True)
            (entry / name).unlink(missing_ok=True)
            (shutil.copytree if (other / name).is_dir() else shutil.copy)(
                other / name, entry / name
            )
    else:
        path = tmp_path / "run/layer/histogram/zarr.json"
        if what == "attribute":
            path.write_text(path.read_text().replace('"total": 300', '"total": 301'))
        else:
            edit(path, lambda facts: facts["tensorstate_cache"].update(entry="../part-0"))
    says = "the cached counts in .*layer/histogram are damaged or .* counted again: "
    layer = open_run(tmp_path / "run")["layer"]
    with pytest.warns(RuntimeWarning, match=says):
        assert layer.spectrum() if what == "spectrum" else layer.histogram()
    check(layer, rows)
    with warnings.catch_warnings(action="error"):
        check(open_run(tmp_path / "run")["layer"], rows)


def test_a_cache_that_was_deleted_or_is_of_other_rows_needs_no_warning(tmp_path):
    rows = random_rows(300, 3)
    write(tmp_path / "run", rows)
    check(open_run(tmp_path / "run")["layer"], rows)
    shutil.rmtree(tmp_path / "run/layer/histogram")
    with warnings.catch_warnings(action="error"):
        check(open_run(tmp_path / "run")["layer"], rows)
        write(tmp_path / "run", rows, mode="w")
        check(open_run(tmp_path / "run")["layer"], rows)


def test_a_file_in_place_of_the_cache(tmp_path):
    rows = random_rows(300, 3)
    write(tmp_path / "run", rows)
    (tmp_path / "run/layer/histogram").write_text("not a group")
    check(open_run(tmp_path / "run")["layer"], rows)


def test_the_cache_may_be_deleted_at_any_time(tmp_path):
    rows = random_rows(3000, 6)
    write(tmp_path / "run", rows)
    layer = open_run(tmp_path / "run")["layer"]
    layer.counts()
    again = open_run(tmp_path / "run")["layer"]
    shutil.rmtree(tmp_path / "run/layer/histogram")
    check(layer, rows)
    check(again, rows)


def test_stores_that_cannot_be_written(tmp_path):
    rows = random_rows(3000, 6)
    memory = MemoryStore()
    write(memory, rows)
    keys = set(memory._store_dict)
    for store in (LockedStore(memory), memory.with_read_only(True)):
        check(open_run(store)["layer"], rows)
        assert set(memory._store_dict) == keys
    write(tmp_path / "run", rows)
    check(open_run(LocalStore(tmp_path / "run", read_only=True))["layer"], rows)
    assert not (tmp_path / "run/layer/histogram").exists()


def test_a_zip_of_a_run(tmp_path):
    rows = random_rows(3000, 6)
    write(tmp_path / "run", rows)

    def zipped(name):
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            for path in (tmp_path / "run").rglob("*"):
                if path.is_file():
                    file.write(path, path.relative_to(tmp_path / "run"))
        return (tmp_path / name).read_bytes()

    content = zipped("without.zip")
    open_run(tmp_path / "run")["layer"].counts()
    zipped("with.zip")
    with ZipStore(tmp_path / "without.zip", mode="r") as store:
        check(open_run(store)["layer"], rows)
    assert (tmp_path / "without.zip").read_bytes() == content
    with ZipStore(tmp_path / "with.zip", mode="r") as inner:
        store = ReadingStore(inner)
        check(open_run(store)["layer"], rows)
        assert len(store.chunks()) == 0


def test_writing_is_given_up_without_a_trace(tmp_path, monkeypatch):
    rows = random_rows(3000, 6)
    write(tmp_path / "run", rows)
    check(open_run(tmp_path / "run")["layer"], rows)
    entries = cached_entries(tmp_path / "run")
    write(tmp_path / "run", rows, mode="resume")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorstate.storage.cache._publish", no_space)
    check(open_run(tmp_path / "run")["layer"], np.concatenate([rows, rows]))
    assert cached_entries(tmp_path / "run") == entries

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tensorstate.storage.cache._publish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_run(tmp_path / "run")["layer"].histogram()
    assert cached_entries(tmp_path / "run") == entries


def test_a_run_that_was_overwritten_while_it_was_counted_is_not_cached(tmp_path):
    rows = random_rows(3000, 6)
    write(tmp_path / "run", rows)
    layer = open_run(tmp_path / "run")["layer"]
    histogram = layer.histogram()
    write(tmp_path / "run", rows, mode="w", name="another")
    layer._stored_counts.save(layer._parts(), histogram)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["another", "zarr.json"]


def test_processes_that_count_at_once_leave_one_whole_cache(tmp_path):
    rows = random_rows(20_000, 12, distinct=5000)
    write(tmp_path / "run", rows)
    program = (
        "import shutil, sys, tensorstate as ts\n"
        "for _ in range(10):\n"
        "    h = ts.open_run(sys.argv[1])['layer'].histogram()\n"
        "    assert h.total == 20000, h\n"
        "    print(h.distinct, h.keys.sum(), h.first_rows.sum())\n"
        "    shutil.rmtree(sys.argv[1] + '/layer/histogram', ignore_errors=True)\n"
        "ts.open_run(sys.argv[1])['layer'].histogram()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    lines = {line for process in processes for line in process.communicate()[0].splitlines()}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(lines) == 1
    check(open_run(tmp_path / "run")["layer"], rows)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_damaged_states_are_named_and_nothing_is_cached(tmp_path, scheduler, damage):
    import dask

    write(tmp_path / "run", random_rows(60_000, 6))
    chunk = tmp_path / "run/layer/part-0/states/c/2/0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 4
    chunk.unlink() if damage == "missing" else chunk.write_bytes(content)
    layer = open_run(tmp_path / "run")["layer"]
    says = rf"run {tmp_path}/run, layer layer, part 0, chunk 2 \(rows .*lost"
    every = np.arange(layer.instance_count)
    with dask.config.set(scheduler=scheduler):
        for read in (
            layer.histogram,
            layer.entropy,
            lambda: layer.counts(every),
            lambda: layer.histogram(by=every % 2),
        ):
            with pytest.raises(DamagedChunkError, match=says):
                read()
    assert not (tmp_path / "run/layer/histogram").exists()


def test_an_entry_of_other_rows_is_ignored(tmp_path):
    for number, distinct in enumerate((20, 25)):
        rows = random_rows(300, 3, number, distinct)
        write(tmp_path / f"run-{number}", rows)
        check(open_run(tmp_path / f"run-{number}")["layer"], rows)
    entries = [cached_entries(tmp_path / f"run-{number}")[0] for number in range(2)]
    folders = [
        tmp_path / f"run-{number}/layer/histogram/{entry}" for number, entry in enumerate(entries)
    ]
    shutil.rmtree(folders[0])
    shutil.copytree(folders[1], folders[0])
    layer = open_run(tmp_path / "run-0")["layer"]
    layer.entropy()
    check(layer, random_rows(300, 3, 0, 20))


steps = st.one_of(
    st.tuples(st.just("record"), st.integers(0, 40)),
    st.tuples(st.just("count"), st.booleans()),
    st.tuples(st.just("lose"), st.integers(0, 60)),
    st.tuples(
        st.sampled_from(["close", "reset", "rewrite", "delete", "select"]), st.integers(0, 9)
    ),
)


@pytest.mark.parametrize("width", WIDTHS)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(program=st.lists(steps, min_size=3, max_size=14), seed=seeds, positions=st.integers(1, 3))
def test_whatever_happens_to_a_run_its_counts_are_right(
    width, program, seed, positions, monkeypatch
):
    monkeypatch.setattr("tensorstate.storage.writer._SMALLEST_CHUNK_BYTES", 30 * width)
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 256, (rng.integers(1, 60), width), dtype=np.uint8)
    store = ReadingStore(MemoryStore())
    rows = np.empty((0, positions, width), np.uint8)
    recorder = None
    for step, size in [("record", 5), *program, ("count", False), ("close", 0), ("count", True)]:
        if step == "lose" and recorder is None and len(rows):
            # What a crash leaves where another layer has not come as far.
            rows = rows[: max(len(rows) - size, 1)]
            set_attributes(zarr.open_group(store, mode="r+"), instances=len(rows))
            recorder = StateRecorder("layer", store, mode="resume", queue_bytes=60 * width)
        elif step == "rewrite" and recorder is None:
            recorder = StateRecorder("layer", store, mode="w", queue_bytes=60 * width)
            rows = rows[:0]
        elif step == "delete":
            sync(store.delete_dir("layer/histogram"))
        elif step == "close" and recorder is not None:
            recorder.close()
            recorder = None
        if step in ("record", "lose", "rewrite"):
            if recorder is None:
                recorder = StateRecorder("layer", store, mode="resume", queue_bytes=60 * width)
            more = pool[rng.integers(0, len(pool), (size + 1, positions))]
            recorder.record(np.unpackbits(more, axis=-1, bitorder="little").astype(np.float32))
            rows = np.concatenate([rows, more])
        if step == "reset" and recorder is not None:
            recorder.reset_states()
            rows = rows[:0]
        if not len(rows):
            continue
        if step in ("count", "select"):
            if recorder is not None:
                recorder.flush()
            layer = open_run(store)["layer"] if recorder is None or size else recorder
            assert layer.instance_count == len(rows)
            if step == "count":
                check(layer, rows.reshape(-1, width))
            else:
                chosen = rng.integers(0, len(rows), size)
                found = dict(zip_counts(layer, chosen))
                assert found == times_by_hand(rows[chosen].reshape(-1, width))


def zip_counts(layer, chosen):
    histogram = layer.histogram(chosen)
    states = layer.raw_states[histogram.first_rows]
    return ((s.tobytes(), int(c)) for s, c in zip(states, histogram.counts, strict=True))


def times_by_hand(rows):
    return {state: times for state, (times, _) in count_by_hand(rows).items()}


def test_a_layer_that_was_reset_while_it_was_counted_is_not_cached(tmp_path):
    recorder = StateRecorder("layer", tmp_path / "run")
    recorder.record(np.eye(8))
    parts = recorder._parts()
    histogram = recorder.histogram()
    shutil.rmtree(tmp_path / "run/layer/histogram")
    recorder.reset_states()
    recorder.record(np.ones((8, 8)))
    recorder.flush()
    recorder._cache().save(parts, histogram)
    assert not (tmp_path / "run/layer/histogram").exists()
    check(recorder, np.full((8, 1), 255, np.uint8))
