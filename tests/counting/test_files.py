import errno
import fcntl
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensorstate.counting import files
from tensorstate.counting.files import BUFFER_BYTES, LocalWriter, Request
from tensorstate.counting.pages import BLOCK, blocks
from tests.strategies import reproducible


@pytest.fixture(params=["direct", "through the page cache"])
def way(request, monkeypatch, tmp_path):
    if request.param == "direct":
        monkeypatch.setattr(files, "_INDIRECT_DEVICES", set())
        monkeypatch.setattr(files, "SLOW", 0.0)
        monkeypatch.setattr(files, "LEAST_DIRECT", BLOCK)
    else:
        monkeypatch.setattr(files, "_INDIRECT_DEVICES", {os.stat(tmp_path).st_dev})
    return request.param


def put(array, aligned):
    """Return a copy that begins with a block, or does not."""
    room = blocks(array.nbytes + 1)
    start = 0 if aligned else 1
    copy = room[start : start + array.nbytes]
    copy[:] = array
    return copy


def read(folder, name, start, size):
    request = Request(name, start, size, blocks(size + 2 * BLOCK))
    files.read_local(str(folder), [request])
    return request.content.tobytes()


@settings(reproducible, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_was_written_is_read(data, way, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    size = st.one_of(
        st.integers(0, 3 * BLOCK),
        st.sampled_from([0, BLOCK, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES]),
    )
    arrays = [
        put(rng.integers(0, 256, length, dtype=np.uint8), data.draw(st.booleans()))
        for length in data.draw(st.lists(size, max_size=5))
    ]
    whole = b"".join(array.tobytes() for array in arrays)
    with LocalWriter(str(folder / "file")) as writer:
        for array in arrays:
            writer.write(array)
    assert (folder / "file").read_bytes() == whole
    for _ in range(5):
        start = data.draw(st.integers(0, len(whole)))
        stop = data.draw(st.integers(start, len(whole)))
        assert read(folder, "file", start, stop - start) == whole[start:stop]


def test_many_files_are_read_at_once(way, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LEAST_FOR_THREADS", 1)
    contents = [np.full(10_000, number, np.uint8) for number in range(20)]
    for number, content in enumerate(contents):
        with LocalWriter(str(tmp_path / f"{number}")) as writer:
            writer.write(content)
    requests = [
        Request(f"{number}", start, 100, blocks(2 * BLOCK))
        for number in range(20)
        for start in (0, 5000)
    ]
    files.read_local(str(tmp_path), requests)
    assert [request.content[0] for request in requests] == [n for n in range(20) for _ in "ab"]


def test_a_file_that_is_too_short_or_not_there(way, tmp_path):
    (tmp_path / "file").write_bytes(bytes(5000))
    assert read(tmp_path, "file", 4900, 100) == bytes(100)
    for start, size in ((4901, 100), (0, 6000), (10_000, 1)):
        with pytest.raises(OSError, match=r"spill file .*file ended early: count again"):
            read(tmp_path, "file", start, size)
    with pytest.raises(FileNotFoundError):
        read(tmp_path, "other", 0, 1)


def test_a_file_is_not_overwritten_and_only_for_its_owner(way, tmp_path):
    with LocalWriter(str(tmp_path / "file")):
        pass
    assert (tmp_path / "file").stat().st_mode & 0o077 == 0
    with pytest.raises(FileExistsError):
        LocalWriter(str(tmp_path / "file"))


def write(path, size):
    with LocalWriter(str(path)) as writer:
        writer.write(np.ones(size, np.uint8))
    return writer.direct_bytes


def test_small_pieces_go_through_the_page_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_INDIRECT_DEVICES", set())
    monkeypatch.setattr(files, "SLOW", 0.0)
    assert write(tmp_path / "small", 1000) == 0
    if not write(tmp_path / "large", BUFFER_BYTES):
        pytest.skip("the file system of temporary files cannot write directly")
    assert write(tmp_path / "both", BUFFER_BYTES + 1000) == BUFFER_BYTES


def test_a_slow_disk_is_left_to_the_page_cache(tmp_path, monkeypatch):
    devices = set()
    monkeypatch.setattr(files, "_INDIRECT_DEVICES", devices)
    monkeypatch.setattr(files, "MEASURED_BYTES", 10_000)
    monkeypatch.setattr(files, "SLOW", 1e15)
    if not write(tmp_path / "slow", BUFFER_BYTES):
        pytest.skip("the file system of temporary files cannot write directly")
    assert devices == {os.stat(tmp_path).st_dev}
    assert write(tmp_path / "next", BUFFER_BYTES) == 0


def test_a_file_system_that_cannot_write_directly(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_INDIRECT_DEVICES", set())
    plain = fcntl.fcntl

    def refuse(file, command, flags=0):
        if command == fcntl.F_SETFL and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return plain(file, command, flags)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert write(tmp_path / "file", 3 * BUFFER_BYTES) == 0
    assert read(tmp_path, "file", 2 * BUFFER_BYTES, BUFFER_BYTES) == b"\1" * BUFFER_BYTES
