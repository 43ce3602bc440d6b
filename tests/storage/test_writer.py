"""The run writer: modes, the bounded queue, failures in the background, and the end."""

import gc
import subprocess
import sys
import threading
import time
import weakref
from unittest.mock import patch

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore

from tensorstate.storage import LayerInfo, RunWriter, open_run
from tensorstate.storage import format as store_format
from tensorstate.storage.chunks import LocalChunks
from tests.storage.stores import FailingStore, SlowStore

INFO = LayerInfo(neurons=20, positions=4)


def random_rows(instances, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (instances * INFO.positions, INFO.width), dtype=np.uint8)
    rows[:, -1] &= 0x0F
    return rows


def write(store, instances, mode="x", names=("a", "b"), seed=0, **options):
    writer = RunWriter(store, mode=mode, layers=len(names), **options)
    for name in names:
        writer.add_layer(name, INFO)
    for name in names:
        writer.put(name, random_rows(instances, seed))
    writer.close()


def stored(store):
    return {name: np.asarray(layer.raw_states) for name, layer in open_run(store).items()}


def test_what_is_put_is_stored(tmp_path):
    write(tmp_path / "run", 50)
    run = open_run(tmp_path / "run")
    assert run.instances == 50
    for rows in stored(tmp_path / "run").values():
        np.testing.assert_array_equal(rows, random_rows(50))


def test_an_existing_run_is_refused_and_left_alone(tmp_path):
    write(tmp_path / "run", 5)
    with pytest.raises(FileExistsError, match=r"already holds a run with 5 .*mode='w'.*'resume'"):
        RunWriter(tmp_path / "run")
    np.testing.assert_array_equal(stored(tmp_path / "run")["a"], random_rows(5))


@pytest.mark.parametrize("mode", ["x", "w", "resume"])
def test_what_is_no_run_is_never_overwritten(tmp_path, mode):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"not a run of tensorstate.*nothing was overwritten"):
        RunWriter(tmp_path, mode=mode)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_overwriting_a_run_leaves_nothing_of_it(tmp_path):
    write(tmp_path / "run", 50, names=("a", "b"))
    write(tmp_path / "run", 3, mode="w", names=("c",), seed=1)
    assert set(stored(tmp_path / "run")) == {"c"}
    np.testing.assert_array_equal(stored(tmp_path / "run")["c"], random_rows(3, seed=1))


def test_resuming_goes_on_after_the_committed_instances(tmp_path):
    rows = random_rows(60)
    writer = RunWriter(tmp_path / "run", layers=2)
    for name in ("a", "b"):
        writer.add_layer(name, INFO)
        writer.put(name, rows[: 30 * INFO.positions])
    writer.put("a", rows[:80])  # instances that the other layer never got
    writer.close()
    again = RunWriter(tmp_path / "run", mode="resume", layers=2)
    assert again.committed_before == 30
    for name in ("a", "b"):
        assert again.add_layer(name, INFO) == 30
        again.put(name, rows[30 * INFO.positions :])
    again.close()
    assert open_run(tmp_path / "run").instances == 60
    for found in stored(tmp_path / "run").values():
        np.testing.assert_array_equal(found, rows)


def test_resuming_without_anything_more_changes_nothing(tmp_path):
    write(tmp_path / "run", 5)
    RunWriter(tmp_path / "run", mode="resume").close()
    writer = RunWriter(tmp_path / "run", mode="resume")
    writer.add_layer("a", INFO)
    writer.put("a", random_rows(3))
    writer.close()  # the other layer did not go on
    assert open_run(tmp_path / "run").instances == 5
    write(tmp_path / "run", 0, mode="resume")
    assert open_run(tmp_path / "run").instances == 5
    for rows in stored(tmp_path / "run").values():
        np.testing.assert_array_equal(rows, random_rows(5))


def test_resuming_a_run_that_was_never_begun(tmp_path):
    write(tmp_path / "run", 5, mode="resume")
    np.testing.assert_array_equal(stored(tmp_path / "run")["a"], random_rows(5))


@pytest.mark.parametrize(
    "info",
    [LayerInfo(21, 4), LayerInfo(20, 5), LayerInfo(20, 4, threshold=0.5), LayerInfo(20, 4, 0.0, 1)],
)
def test_resuming_with_other_states_is_refused(tmp_path, info):
    write(tmp_path / "run", 5, names=("a",))
    writer = RunWriter(tmp_path / "run", mode="resume")
    with pytest.raises(ValueError, match="cannot be mixed in one run"):
        writer.add_layer("a", info)
    with pytest.raises(ValueError, match="5 committed instances without a layer 'new'"):
        writer.add_layer("new", INFO)
    writer.close()
    np.testing.assert_array_equal(stored(tmp_path / "run")["a"], random_rows(5))


def test_two_writers_of_one_run_in_a_process_are_refused(tmp_path):
    first = RunWriter(tmp_path / "run")
    for store in (tmp_path / "run", str(tmp_path / "run"), LocalStore(tmp_path / "run")):
        with pytest.raises(FileExistsError, match="open for writing in this process"):
            RunWriter(store, mode="resume")
    first.close()
    RunWriter(tmp_path / "run", mode="resume").close()


def test_two_layers_of_one_name_are_refused():
    writer = RunWriter()
    writer.add_layer("a", INFO)
    with pytest.raises(ValueError, match="a name of its own"):
        writer.add_layer("a", INFO)
    writer.close()


@pytest.mark.parametrize("path", ["file/run", "file"])
def test_a_path_that_cannot_be_written(tmp_path, path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="choose"):
        RunWriter(tmp_path / path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "a"}, "unknown mode 'a': choose one of 'x', 'w', 'resume'"),
        ({"queue_bytes": 0}, "queue_bytes is a positive number"),
        ({"codec": "gzip"}, "unknown codec 'gzip'"),
    ],
)
def test_unknown_options(tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        RunWriter(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_full_queue_makes_the_caller_wait_and_loses_nothing():
    memory, limit = MemoryStore(), 256 << 10
    store = SlowStore(memory, 0.02)
    writer = RunWriter(store, queue_bytes=limit)
    writer.add_layer("a", INFO)
    queue, most, done = writer._queue, 0, threading.Event()

    def watch():
        nonlocal most
        while not done.is_set():
            most = max(most, queue._bytes)
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    pieces = [random_rows(1000, seed) for seed in range(150)]
    for piece in pieces:
        writer.put("a", piece)
    done.set()
    watcher.join()
    writer.close()
    assert sum(p.nbytes for p in pieces) > 6 * limit
    assert 0 < most <= queue.capacity <= limit
    np.testing.assert_array_equal(stored(memory)["a"], np.concatenate(pieces))


def test_a_queue_smaller_than_a_piece_still_moves():
    store = MemoryStore()
    write(store, 1000, queue_bytes=1)
    np.testing.assert_array_equal(stored(store)["b"], random_rows(1000))


@pytest.mark.timeout(60)
def test_a_piece_larger_than_the_room_that_is_left_waits_for_its_turn():
    store = MemoryStore()
    writer = RunWriter(store, queue_bytes=1 << 20)
    writer.add_layer("a", INFO)
    instances = writer._queue.capacity // (INFO.width * INFO.positions)
    pieces = [random_rows(instances * tenths // 10) for tenths in (3, 8, 1, 20, 3)]
    for piece in pieces:
        writer.put("a", piece)
    writer.close()
    np.testing.assert_array_equal(stored(store)["a"], np.concatenate(pieces))


def test_many_layers_share_the_room_for_chunks():
    writer = RunWriter(queue_bytes=64 << 20, layers=200)
    for number in range(200):
        writer.add_layer(f"layer-{number}", INFO)
    held = sum(layer.part.chunk_bytes for layer in writer._queue.layers.values())
    assert held + writer._queue.capacity <= 64 << 20
    writer.close()


def test_a_failure_in_the_background_is_raised_with_its_cause_and_what_is_committed(tmp_path):
    store = FailingStore(LocalStore(tmp_path / "run"), chunks=2)
    writer = RunWriter(store, queue_bytes=128 << 10)
    writer.add_layer("a", INFO)
    rows = random_rows(20_000)

    def put_all():
        for start in range(0, len(rows), 800):
            writer.put("a", rows[start : start + 800])
        writer.flush()

    with pytest.raises(OSError, match=r"stopped, \d+ instances are committed.*No space left") as e:
        put_all()
    assert isinstance(e.value.__cause__, OSError)
    for again in (lambda: writer.put("a", rows[:1]), writer.flush, writer.close):
        with pytest.raises(OSError, match="No space left"):
            again()
    run = open_run(tmp_path / "run")
    assert 0 < run.instances < 20_000
    committed = stored(tmp_path / "run")["a"]
    assert len(committed) == run.instances * INFO.positions
    np.testing.assert_array_equal(committed, rows[: len(committed)])


def test_after_a_failure_a_new_writer_goes_on_while_the_old_one_is_still_there(tmp_path):
    rows = random_rows(20_000)
    failed = RunWriter(tmp_path / "run", queue_bytes=128 << 10)
    failed.add_layer("a", INFO)
    failed.put("a", rows[:8000])
    failed.flush()
    with patch.object(LocalChunks, "write", side_effect=OSError(28, "No space left on device")):
        failed.put("a", rows[8000:8800])
        with pytest.raises(OSError, match="No space left"):
            failed.flush()
    with pytest.raises(FileExistsError, match="holds"):
        RunWriter(tmp_path / "run")
    writer = RunWriter(tmp_path / "run", mode="resume")
    writer.put("a", rows[writer.add_layer("a", INFO) * INFO.positions :])
    writer.close()
    np.testing.assert_array_equal(stored(tmp_path / "run")["a"], rows)
    for again in (lambda: failed.put("a", rows[:1]), failed.flush, failed.close):
        with pytest.raises(OSError, match="No space left"):
            again()


def test_after_closing_nothing_more_can_be_put():
    writer = RunWriter()
    writer.add_layer("a", INFO)
    writer.close()
    writer.close()
    writer.flush()
    with pytest.raises(ValueError, match="is closed"):
        writer.put("a", random_rows(1))


def test_the_thread_ends_with_the_writer():
    def writer_threads():
        return [t for t in threading.enumerate() if t.name == "tensorstate-writer"]

    gc.collect()
    before = len(writer_threads())
    writer = RunWriter()
    writer.add_layer("a", INFO)
    writer.put("a", random_rows(3))
    assert len(writer_threads()) == before + 1
    del writer
    gc.collect()
    deadline = time.monotonic() + 10
    while len(writer_threads()) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(writer_threads()) == before


def test_a_program_that_ends_without_closing_loses_nothing(tmp_path):
    program = """
import sys
import numpy as np
from tensorstate.storage import LayerInfo, RunWriter
writer = RunWriter(sys.argv[1])
writer.add_layer("a", LayerInfo(20, 4))
writer.put("a", np.ones((400, 3), np.uint8))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    run = open_run(tmp_path / "run")
    assert (run.instances, run["a"].state_count) == (100, 400)


def test_instances_wait_for_the_slowest_layer(tmp_path):
    writer = RunWriter(tmp_path / "run", layers=2)
    writer.add_layer("a", INFO)
    writer.put("a", random_rows(2_000_000))  # several chunks, before the other layer is known
    time.sleep(0.5)
    assert zarr.open_group(tmp_path / "run", mode="r").attrs["instances"] == 0
    writer.add_layer("b", INFO)
    writer.put("b", random_rows(10))
    writer.close()
    run = open_run(tmp_path / "run")
    assert (run.instances, run["a"].instance_count) == (10, 2_000_000)


def test_a_layer_that_cannot_be_added_leaves_no_instances_of_the_others(tmp_path, monkeypatch):
    """Of the network only: with a layer less, nothing could go on after them."""
    path = tmp_path / "run"
    writer = RunWriter(path, layers=2)
    writer.add_layer("first", LayerInfo(8, 1))
    writer.put("first", np.ones((10, 1), np.uint8))

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(store_format, "create_part", deny)
        with pytest.raises(PermissionError):
            writer.add_layer("second", LayerInfo(8, 1))
    with pytest.raises(OSError, match=r"0 instances are committed: .*second could not"):
        writer.close()
    dropped = weakref.ref(writer)
    del writer
    gc.collect()
    assert dropped() is None
    assert open_run(path).instances == 0
    writer = RunWriter(path, mode="resume", layers=2)
    for name in ("first", "second"):
        writer.add_layer(name, LayerInfo(8, 1))
        writer.put(name, np.ones((10, 1), np.uint8))
    writer.close()
    assert [layer.instance_count for layer in open_run(path).values()] == [10, 10]
