"""Files that are made on the way are for their owner only, and are never made through a link."""

import os
import stat

import numpy as np
import pytest

from tensorstate.counting import count_states
from tensorstate.counting.files import LocalWriter
from tensorstate.counting.spill import PREFIX, SpillDirectory
from tests.counting.limits import make_tiny


@pytest.fixture(autouse=True)
def nothing_is_masked():
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_spill_is_private(tmp_path):
    directory = SpillDirectory.create(str(tmp_path / "spill"))
    with directory.writing("block") as write:
        write(np.arange(100, dtype=np.uint8))
        drafts = os.listdir(directory.path)
    assert mode(directory.path) == 0o700
    assert drafts
    assert {mode(os.path.join(directory.path, name)) for name in os.listdir(directory.path)} == {
        0o600
    }
    directory.remove()
    assert os.listdir(tmp_path / "spill") == []


def test_all_that_a_count_spills_is_private(tmp_path, monkeypatch):
    make_tiny(monkeypatch)
    seen = set()
    write = LocalWriter.write

    def look_and_write(self, array):
        for folder, _, files in os.walk(tmp_path / "spill"):
            if folder != str(tmp_path / "spill"):
                seen.add(("folder", mode(folder)))
            seen.update(("file", mode(os.path.join(folder, name))) for name in files)
        return write(self, array)

    monkeypatch.setattr(LocalWriter, "write", look_and_write)
    rows = np.random.default_rng(0).integers(0, 256, (30_000, 12), dtype=np.uint8)
    histogram = count_states(rows, memory_limit=1_000_000, spill=tmp_path / "spill")
    assert histogram.total == len(rows)
    assert seen == {("folder", 0o700), ("file", 0o600)}


@pytest.mark.parametrize("to", ["a file", "nothing"])
def test_links_in_the_place_of_files_are_not_followed(tmp_path, to):
    target = tmp_path / "target"
    if to == "a file":
        target.write_bytes(b"mine")
    directory = SpillDirectory.create(str(tmp_path / "spill"))
    os.symlink(target, os.path.join(directory.path, "block"))
    with directory.writing("block") as write:
        write(np.arange(100, dtype=np.uint8))
    assert not os.path.islink(os.path.join(directory.path, "block"))
    os.symlink(target, os.path.join(directory.path, "draft"))
    with pytest.raises(FileExistsError):
        LocalWriter(os.path.join(directory.path, "draft")).__enter__()
    directory.remove()
    assert (target.read_bytes() == b"mine") if to == "a file" else not target.exists()


def test_links_in_the_place_of_directories_are_left_alone(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/owner").write_bytes(b"")  # as if a process had left it
    (tmp_path / "spill").mkdir()
    link = tmp_path / "spill" / f"{PREFIX}link"
    link.symlink_to(tmp_path / "elsewhere")
    directory = SpillDirectory.create(str(tmp_path / "spill"))
    directory.remove()
    assert (tmp_path / "elsewhere/owner").exists()
    assert link.is_symlink()
