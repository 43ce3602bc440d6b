import os
import signal
import subprocess
import sys
import threading

import pytest

from tensorstate.counting.owners import make_owned, remove_abandoned, remove_owned

OWNER = """
import sys, time
from pathlib import Path
from tensorstate.counting.owners import make_owned
print(make_owned(Path(sys.argv[1]), "mine-"), flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed(tmp_path):
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        theirs = process.stdout.readline().strip()
        ours = make_owned(tmp_path, "mine-")
        remove_abandoned(tmp_path, "mine-")
        assert {str(path) for path in tmp_path.iterdir()} == {ours, theirs}
        process.send_signal(signal.SIGKILL)
        process.wait()
    remove_abandoned(tmp_path, "other-")
    assert os.path.isdir(theirs)
    remove_abandoned(tmp_path, "mine-")
    assert [str(path) for path in tmp_path.iterdir()] == [ours]
    remove_owned(ours)
    assert not list(tmp_path.iterdir())


KILLED = """
import fcntl, os, signal, sys
from pathlib import Path
from tensorstate.counting.owners import make_owned
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

module, function = sys.argv[2].split(".")
setattr({"os": os, "fcntl": fcntl}[module], function, die)
make_owned(Path(sys.argv[1]), "mine-")
"""


@pytest.mark.parametrize("moment", ["os.open", "fcntl.flock", "os.rename"])
def test_what_is_left_of_a_directory_that_was_being_made(tmp_path, moment):
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), moment], timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    remove_abandoned(tmp_path, "mine-")
    assert not list(tmp_path.iterdir())


def test_nobody_takes_away_what_is_being_made(tmp_path):
    """Another process may remove a directory that is not locked yet: then another one is made."""
    is_made = threading.Event()

    def remove():
        while not is_made.is_set():
            remove_abandoned(tmp_path, "mine-")

    thief = threading.Thread(target=remove)
    thief.start()
    try:
        ours = {make_owned(tmp_path, "mine-") for _ in range(300)}
    finally:
        is_made.set()
        thief.join()
    remove_abandoned(tmp_path, "mine-")
    assert {str(path) for path in tmp_path.iterdir()} == ours
    for path in ours:
        remove_owned(path)
    assert not list(tmp_path.iterdir())


def test_only_what_was_made_for_it_is_removed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "owner").write_text("")
    (tmp_path / "mine-without-a-lock").mkdir()
    (tmp_path / "mine-file").write_text("")
    (tmp_path / "mine-half-removed").mkdir()
    remove_abandoned(tmp_path, "mine-")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"elsewhere", "mine-link", "mine-without-a-lock", "mine-file"}


def test_a_directory_is_for_its_owner_only(tmp_path):
    path = make_owned(tmp_path, "mine-")
    assert os.stat(path).st_mode & 0o077 == 0
    remove_owned(path)
    remove_owned(path)
