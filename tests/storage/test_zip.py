"""Runs that were packed into a zip file."""

import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from zarr.storage import ZipStore

import tensorstate as ts
from tensorstate.storage import DamagedChunkError, open_run


@pytest.fixture
def packed(tmp_path):
    """A run, and the zip file of it."""
    with ts.StateRecorder("layer", tmp_path / "run") as recorder:
        recorder.record(np.random.default_rng(0).normal(size=(50, 40, 12)))
    open_run(tmp_path / "run").set_labels(np.arange(50) % 2)
    return tmp_path / "run", shutil.make_archive(tmp_path / "packed", "zip", tmp_path / "run")


def test_it_is_read_where_it_is(packed):
    folder, path = packed
    before = zipfile.ZipFile(path).namelist()
    run, unpacked = open_run(path), open_run(folder)
    assert run.instances == 50
    assert run["layer"].histogram() == unpacked["layer"].histogram()
    assert len(run.verify()) == 0
    np.testing.assert_array_equal(run["layer"].raw_states, unpacked["layer"].raw_states)
    assert run.labels.tolist() == unpacked.labels.tolist()
    assert zipfile.ZipFile(path).namelist() == before


def test_it_is_read_by_other_processes(packed):
    (part,) = open_run(packed[1])["layer"]._parts()
    sent = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(sent[:], part[:])


def test_a_store_of_zarr(packed):
    _, path = packed
    assert open_run(ZipStore(path)).instances == 50


@pytest.mark.parametrize("mode", ["x", "w", "resume"])
@pytest.mark.parametrize("name", ["packed.zip", "new.zip"])
def test_it_is_not_written(packed, tmp_path, mode, name):
    content = (tmp_path / "packed.zip").read_bytes()
    for path in (tmp_path / name, str(tmp_path / name)):
        with pytest.raises(PermissionError, match=rf"{name} is a zip file, .*choose a folder"):
            ts.StateRecorder("layer", path, mode=mode)
    assert (tmp_path / "packed.zip").read_bytes() == content
    assert not (tmp_path / "new.zip").exists()


def test_nor_are_labels(packed):
    with pytest.raises(PermissionError, match="read-only"):
        open_run(packed[1]).set_labels(np.arange(50))


def test_what_is_whole_is_salvaged_from_it(packed, tmp_path):
    with pytest.raises(PermissionError, match="is a zip file"):
        open_run(packed[1]).salvage(tmp_path / "other.zip")
    salvaged = open_run(packed[1]).salvage(tmp_path / "other")
    assert salvaged["layer"].histogram() == open_run(packed[0])["layer"].histogram()


def test_a_folder_may_have_such_a_name(packed, tmp_path):
    shutil.copytree(packed[0], tmp_path / "folder.zip")
    assert open_run(tmp_path / "folder.zip").instances == 50
    ts.StateRecorder("layer", tmp_path / "folder.zip", mode="w").close()


def test_a_damaged_chunk(packed):
    path = Path(packed[1])
    with zipfile.ZipFile(path) as file:
        chunk = file.getinfo("layer/part-0/states/c/0/0")
    content = bytearray(path.read_bytes())
    content[chunk.header_offset + 200] ^= 4
    path.write_bytes(content)
    with pytest.raises(DamagedChunkError, match="chunk 0"):
        open_run(path)["layer"].counts()
    assert open_run(path).verify()["chunk"].tolist() == [0]


def test_files_that_are_no_run(tmp_path, packed):
    with pytest.raises(FileNotFoundError, match=r"no run at .*nothing\.zip"):
        open_run(tmp_path / "nothing.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match=r"text\.zip is not a run .*not a zip file"):
        open_run(tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("run/zarr.json", "{}")
    with pytest.raises(ValueError, match=r"other\.zip is not a run .*no Zarr group"):
        open_run(tmp_path / "other.zip")
