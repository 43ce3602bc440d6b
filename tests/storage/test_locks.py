"""Locks of writers: they keep a second writer out for as long as the first one lives."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from tensorstate.storage import RunWriter, locks, open_run
from tensorstate.storage.locks import lock_writer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_lock_is_a_file_for_as_long_as_it_is_held(tmp_path):
    first, second = lock_writer(tmp_path, "1"), lock_writer(tmp_path, "2")
    assert names(tmp_path) == [".lock-1", ".lock-2"]
    first.release()
    first.release()
    assert names(tmp_path) == [".lock-2"]
    second.release()
    alone = lock_writer(tmp_path, None)
    assert names(tmp_path) == [".lock"]
    alone.release()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("held", "wanted", "says"),
    [
        ("1", "1", "part '1' of the run .* is open for writing in another process"),
        (None, None, "the run .* is open for writing in another process"),
        (None, "1", "another process, which writes it alone"),
        ("1", None, "part '1' of the run .* is open for writing: wait"),
    ],
)
def test_a_second_writer_is_refused_and_leaves_no_lock(tmp_path, held, wanted, says):
    first = lock_writer(tmp_path, held)
    before = names(tmp_path)
    for _ in range(2):
        with pytest.raises(FileExistsError, match=says):
            lock_writer(tmp_path, wanted)
    assert names(tmp_path) == before
    first.release()
    lock_writer(tmp_path, wanted).release()


def test_a_file_that_a_killed_process_left_keeps_nobody_out(tmp_path):
    for name in (".lock", ".lock-1"):
        (tmp_path / name).touch()
    lock_writer(tmp_path, "1").release()
    lock_writer(tmp_path, None).release()


HOLDER = """
import os, sys, time
from tensorstate.storage import RunWriter
part = sys.argv[2] or None
writer = RunWriter(sys.argv[1], part=part, first_instance=0 if part else None)
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("part", ["", "1"])
def test_a_killed_process_holds_nothing_even_if_its_child_lives_on(tmp_path, part):
    command = [sys.executable, "-W", "ignore", "-c", HOLDER, str(tmp_path / "run"), part]
    options = {"part": part, "first_instance": 0} if part else {}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    try:
        for mode in ("w", "resume"):
            with pytest.raises(FileExistsError, match="open for writing in another process"):
                RunWriter(tmp_path / "run", mode=mode, **options)
        process.send_signal(signal.SIGKILL)
        process.wait()
        RunWriter(tmp_path / "run", mode="resume", **options).close()
    finally:
        os.kill(child, signal.SIGKILL)
        process.kill()
        process.communicate()
    assert open_run(tmp_path / "run").instances == 0
    assert names(tmp_path / "run") == ["zarr.json"]


def test_a_child_does_not_take_away_the_lock_of_its_parent(tmp_path):
    lock = lock_writer(tmp_path, "1")
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert names(tmp_path) == [".lock-1"]
    with pytest.raises(FileExistsError):
        lock_writer(tmp_path, "1")
    lock.release()


def test_a_file_that_was_removed_by_its_holder_is_no_lock(tmp_path, monkeypatch):
    """Opened before the holder removed it, and locked after."""
    holder = lock_writer(tmp_path, "1")
    flock, calls = fcntl.flock, []

    def late(file, operation):
        if not calls:
            calls.append(file)
            holder.release()
        return flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    mine = lock_writer(tmp_path, "1")
    assert calls
    with pytest.raises(FileExistsError):
        lock_writer(tmp_path, "1")
    mine.release()
    assert names(tmp_path) == []


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with pytest.warns(RuntimeWarning, match=r"does not lock files \(No locks available\)"):
        writer = RunWriter(tmp_path / "run")
    writer.close()
    assert names(tmp_path / "run") == ["zarr.json"]


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    RunWriter(tmp_path / "run").close()
    (tmp_path / "run/.lock").mkdir()
    with pytest.raises(OSError, match="cannot write a run there"):
        RunWriter(tmp_path / "run", mode="resume")
