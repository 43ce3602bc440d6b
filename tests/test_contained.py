"""Links out of a run, and what is no file in it, are not followed."""

import os
import shutil
import zipfile

import numpy as np
import pytest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, StorePath

import tensorstate as ts
from tensorstate.contained import MOST_BYTES, ContainedStore, contained
from tensorstate.storage import DamagedChunkError, open_run
from tensorstate.storage.locks import lock_writer

BUFFER = default_buffer_prototype().buffer


def record(path, **options):
    with ts.StateRecorder("layer", path, queue_bytes=200_000, **options) as recorder:
        recorder.record(np.random.default_rng(0).normal(size=(8000, 3, 60)))


@pytest.fixture
def run(tmp_path):
    record(tmp_path / "run")
    return tmp_path / "run"


def move_out(run, what):
    """Put what is there outside of the run, and a link in its place."""
    outside = run.parent / "outside"
    shutil.move(run / what, outside)
    (run / what).symlink_to(outside)


@pytest.mark.parametrize("what", ["c/0/0", "c/0", "c"])
def test_chunks_behind_links_are_damage(run, what):
    move_out(run, f"layer/part-0/states/{what}")
    layer = open_run(run)["layer"]
    with pytest.raises(DamagedChunkError, match=r"chunk 0 .*leads out of .* are not followed"):
        layer.raw_states[:10]
    with pytest.raises(DamagedChunkError, match="leads out of"):
        layer.histogram()
    assert 0 in open_run(run).verify()["chunk"].tolist()


@pytest.mark.parametrize(
    "what", ["zarr.json", "layer", "layer/zarr.json", "layer/part-0", "layer/part-0/states"]
)
def test_metadata_behind_links_are_not_read(run, what):
    move_out(run, what)
    for store in (run, str(run), run.as_uri(), LocalStore(run)):
        with pytest.raises(ValueError, match=r"leads out of .*: links out of a store are not foll"):
            open_run(store)


def test_offsets_and_counts_behind_links(tmp_path):
    record(tmp_path / "run", variable_positions=True)
    move_out(tmp_path / "run", "layer/part-0/offsets")
    with pytest.raises(ValueError, match="leads out of"):
        open_run(tmp_path / "run")["layer"].histogram([0])


def test_links_within_a_run_and_to_a_run_are_followed(run):
    expected = open_run(run)["layer"].histogram()
    shutil.move(run / "layer/part-0/states/c/0", run / "layer/here")
    (run / "layer/part-0/states/c/0").symlink_to("../../../here")
    run.parent.joinpath("link").symlink_to(run)
    assert open_run(run.parent / "link")["layer"].raw_states[:].shape == (24000, 8)
    shutil.rmtree(run / "layer/histogram")
    assert open_run(run.parent / "link")["layer"].histogram() == expected


def test_nothing_is_written_behind_links(run):
    outside = run.parent / "outside"
    move_out(run, "layer/part-0")
    before = sorted(path.stat().st_mtime_ns for path in outside.rglob("*"))
    for mode in ("resume", "w"):
        try:
            with ts.StateRecorder("layer", run, mode=mode) as recorder:
                recorder.record(np.ones((10, 3, 60)))
        except ValueError as error:
            assert "leads out of" in str(error)  # noqa: PT017
    assert sorted(path.stat().st_mtime_ns for path in outside.rglob("*")) == before


def test_a_cache_behind_a_link_is_counted_anew_and_stays(run):
    expected = open_run(run)["layer"].histogram()
    move_out(run, "layer/histogram")
    before = sorted(path.stat().st_mtime_ns for path in (run.parent / "outside").rglob("*"))
    with pytest.warns(RuntimeWarning, match="leads out of"):
        assert open_run(run)["layer"].histogram() == expected
    after = sorted(path.stat().st_mtime_ns for path in (run.parent / "outside").rglob("*"))
    assert after == before


def test_saved_histograms_behind_links(tmp_path):
    ts.count_states(np.arange(20, dtype=np.uint8)[:, None]).save(tmp_path / "saved")
    move_out(tmp_path / "saved", "counts")
    with pytest.raises(ValueError, match="leads out of"):
        ts.StateHistogram.load(tmp_path / "saved")


@pytest.mark.parametrize("what", ["zarr.json", "layer/part-0/states/zarr.json"])
def test_pipes_are_not_waited_for(run, what):
    (run / what).unlink()
    os.mkfifo(run / what)
    with pytest.raises(ValueError, match="is no file: nothing else is read from a store"):
        open_run(run)


def test_a_pipe_in_the_place_of_a_chunk(run):
    chunk = run / "layer/part-0/states/c/0/0"
    chunk.unlink()
    os.mkfifo(chunk)
    layer = open_run(run)["layer"]
    with pytest.raises(DamagedChunkError, match=r"chunk 0 .*(missing|it is no file)"):
        layer.raw_states[:10]
    with pytest.raises(DamagedChunkError, match=r"chunk 0 .*it is no file"):
        layer.histogram()


def test_huge_files_are_not_read(run):
    with open(run / "layer/zarr.json", "r+b") as file:
        file.truncate(MOST_BYTES + 1)  # a hole, which takes no space
    with pytest.raises(ValueError, match=r"has \d+ bytes, and nothing in a store has more"):
        open_run(run)


def test_zip_bombs_are_not_unpacked(run, tmp_path):
    with zipfile.ZipFile(tmp_path / "run.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for path in run.rglob("*"):
            name = str(path.relative_to(run))
            if name == "layer/part-0/states/c/0/0":
                with file.open(name, "w") as entry:
                    for _ in range(MOST_BYTES // (1 << 24) + 1):
                        entry.write(bytes(1 << 24))
            elif path.is_file():
                file.write(path, name)
    assert (tmp_path / "run.zip").stat().st_size < 4 << 20
    layer = open_run(tmp_path / "run.zip")["layer"]
    with pytest.raises(DamagedChunkError, match=r"chunk 0 .*unpacks to \d+ bytes, and nothing in"):
        layer.raw_states[:10]


@pytest.mark.parametrize("key", ["../outside/x", "a/../../outside/x", "/etc/hostname"])
def test_keys_do_not_lead_out(tmp_path, key):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_bytes(b"secret")
    (tmp_path / "inside/a").mkdir(parents=True)
    store = ContainedStore(tmp_path / "inside")
    proto = default_buffer_prototype()
    for use in (
        lambda: sync(store.get(key, proto)),
        lambda: store.get_sync(key),
        lambda: sync(store.get_partial_values(proto, [(key, None)])),
        lambda: sync(store.set(key, BUFFER.from_bytes(b"x"))),
        lambda: store.set_sync(key, BUFFER.from_bytes(b"x")),
        lambda: sync(store.set_if_not_exists(key, BUFFER.from_bytes(b"x"))),
        lambda: sync(store.delete(key)),
        lambda: store.delete_sync(key),
        lambda: sync(store.delete_dir(key)),
    ):
        with pytest.raises(ValueError, match="leads out of"):
            use()
    assert (tmp_path / "outside/x").read_bytes() == b"secret"


def test_what_is_within_is_read_and_written(tmp_path):
    store = contained(StorePath(LocalStore(tmp_path / "new"), "a")).store
    assert type(store) is ContainedStore
    proto = default_buffer_prototype()
    sync(store.set("a/b", BUFFER.from_bytes(b"x")))
    sync(store.set_if_not_exists("a/b", BUFFER.from_bytes(b"y")))
    assert sync(store.get("a/b", proto)).to_bytes() == store.get_sync("a/b").to_bytes() == b"x"
    assert sync(store.get("a", proto)) is None
    assert sync(store.get("c", proto)) is None
    sync(store.delete("a/b"))
    assert sync(store.get("a/b", proto)) is None
    assert type(store.with_read_only(True)) is ContainedStore


def test_locks_that_are_links_are_not_followed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(tmp_path / "made")
    with pytest.raises(FileExistsError, match="is a link and no lock: remove it"):
        lock_writer(tmp_path / "run", None)
    assert not (tmp_path / "made").exists()
    (tmp_path / "run/.lock").unlink()
    (tmp_path / "run/.lock-3").symlink_to(tmp_path / "made")
    lock_writer(tmp_path / "run", None).release()
    assert not (tmp_path / "made").exists()
