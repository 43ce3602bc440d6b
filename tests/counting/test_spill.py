import errno
import gc
import os
import pickle
import signal
import stat
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorstate.counting import StateHistogram, count_states, plan_count
from tensorstate.counting.files import LocalWriter
from tensorstate.counting.keys import mixed_hash
from tests.clusters import local_cluster
from tests.counting.limits import Reader, files, make_tiny
from tests.strategies import (
    STRUCTURES,
    as_dict,
    chunkings,
    count_by_hand,
    packed_states,
    reproducible,
    structured,
)


@settings(reproducible, max_examples=30)
@given(data=st.data())
def test_counts_are_those_of_the_oracle_at_any_limit(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spill")
    rows = data.draw(packed_states())
    width = rows.shape[1]
    lengths = data.draw(chunkings(len(rows)))
    pieces = [rows[a:b] for a, b in pairwise(np.cumsum([0, *lengths]))]
    chunk = data.draw(st.integers(1, min(len(rows), 50)))
    states = data.draw(
        st.sampled_from(
            [
                rows,
                pieces,
                zarr.array(rows, chunks=(chunk, width), store={}),
                da.from_array(rows, chunks=(chunk, -1)),
                Reader(rows, chunk),
            ]
        )
    )
    scheduler = data.draw(st.sampled_from(["threads", "synchronous"]))
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch, data.draw(st.integers(1, 100)))
        config = {"scheduler": scheduler, "num_workers": data.draw(st.integers(1, 4))}
        with dask.config.set(config), pytest.raises(ValueError, match="smallest") as refused:
            plan_count(states, 1)
        least = int(str(refused.value).rpartition(": ")[2].split()[0])
        limit = least + data.draw(st.integers(0, 3 * least))
        with dask.config.set(config):
            found = count_states(states, memory_limit=limit, spill=folder)
        whole = count_states(rows)
    assert as_dict(found, rows) == count_by_hand(rows)
    assert found == whole
    assert found.total == len(rows)
    assert [part.tolist() for part in found.spectrum()] == [p.tolist() for p in whole.spectrum()]
    found.save(folder / "found.zarr")
    whole.save(folder / "whole.zarr")
    assert files(folder / "found.zarr") == files(folder / "whole.zarr")
    del found
    gc.collect()
    assert {path.name for path in folder.iterdir()} == {"found.zarr", "whole.zarr"}


@pytest.mark.parametrize("width", [2, 8, 40])
@pytest.mark.parametrize("name", STRUCTURES)
def test_structured_rows(name, width, tmp_path, tiny):
    rows = structured(name, 100_000, width)
    assert plan_count(rows, 200_000).spills
    found = count_states(rows, memory_limit=200_000, spill=tmp_path)
    assert found == count_states(rows, memory_limit="1 GiB")


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
def test_saved_bytes_are_the_same_at_any_limit(scheduler, rows, tmp_path, tiny):
    count_states(rows).save(tmp_path / "whole")
    with dask.config.set(scheduler=scheduler, num_workers=2):
        for limit in (50_000, 200_000):
            for states in (
                zarr.array(rows, chunks=(100, 12), store={}),
                [rows[:10_000], Reader(rows[10_000:], 77)],
            ):
                found = count_states(states, memory_limit=limit, spill=tmp_path / "spill")
                assert found.is_stored
                assert found == found.sorted()
                found.save(tmp_path / "found")
                assert files(tmp_path / "found") == files(tmp_path / "whole")


def test_a_stored_histogram(rows, tmp_path, tiny):
    found = count_states(rows, memory_limit=50_000, spill=tmp_path / "a" / "b")
    whole = count_states(rows)
    assert found.is_stored
    assert not whole.is_stored
    (folder,) = (tmp_path / "a" / "b").iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (found.total, found.distinct, repr(found)) == (whole.total, whole.distinct, repr(whole))
    assert found.entropy(alpha=2) == pytest.approx(whole.entropy(alpha=2), rel=1e-12)
    for some in (found, whole):
        arrays = (some.keys, some.counts, some.first_rows)
        for lazy, array in zip(some.to_dask(), arrays, strict=True):
            assert (lazy.shape, lazy.dtype) == (array.shape, array.dtype)
            assert np.array_equal(lazy.compute(scheduler="threads"), array)
    hashes = mixed_hash(found.sorted().keys)
    assert (hashes[1:] > hashes[:-1]).all()
    assert pickle.loads(pickle.dumps(found)) == found
    assert found.merge(found).total == 2 * found.total
    in_order = found.sorted()
    del found
    gc.collect()
    assert in_order == whole  # its files are there for as long as it is
    keys = in_order.to_dask()[0]
    del in_order
    gc.collect()
    assert len(keys.compute(scheduler="threads")) == whole.distinct
    del keys
    gc.collect()
    assert not folder.exists()


def test_a_small_result_leaves_no_files(tmp_path, tiny):
    rows = np.random.default_rng(0).integers(0, 2, (30_000, 4), dtype=np.uint8)
    found = count_states(rows, memory_limit=50_000, spill=tmp_path)
    assert not found.is_stored
    assert not list(tmp_path.iterdir())
    assert found == count_states(rows)


def test_a_mapped_file(rows, tmp_path, tiny):
    np.save(tmp_path / "rows.npy", rows)
    before = count_states(rows)
    for mode in ("r", "r+", "c"):
        states = np.load(tmp_path / "rows.npy", mmap_mode=mode)
        if mode == "c":
            states[5:1005] = 7  # which only this process knows
        found = count_states(states, memory_limit=50_000, spill=tmp_path)
        assert found.is_stored
        assert found == (count_states(np.array(states)) if mode == "c" else before)


def test_a_directory_that_does_not_reach_everywhere(rows, tmp_path, tiny):
    found = count_states(rows, memory_limit=50_000, spill=tmp_path)
    (folder,) = tmp_path.iterdir()
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="that all workers reach"):
        found.keys  # noqa: B018  (the look-up is the test)


def test_a_url_of_fsspec(rows, tiny):
    import fsspec

    with dask.config.set(scheduler="threads"):
        found = count_states(rows, memory_limit=50_000, spill="memory://spill-test")
    memory = fsspec.filesystem("memory")
    assert found.is_stored
    assert len(memory.ls("/spill-test")) == 1
    assert found == count_states(rows)
    del found
    gc.collect()
    assert not memory.ls("/spill-test")


def test_where_files_go_is_configured(rows, tmp_path, tiny):
    for key in ("tensorstate.spill", "temporary-directory"):
        with dask.config.set({key: str(tmp_path / key), "tensorstate.memory-limit": "50 kB"}):
            found = count_states(rows)
        assert found.is_stored
        assert len(list((tmp_path / key).iterdir())) == 1


class Broken(Reader):
    def meet(self, rows):
        if rows.start > 20_000:
            raise OSError("chunk 3 of part-a fails its checksum")


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
def test_no_files_are_left_after_an_error(scheduler, rows, tmp_path, tiny):
    with (
        dask.config.set(scheduler=scheduler, num_workers=2),
        pytest.raises(OSError, match="chunk 3 of part-a"),
    ):
        count_states(Broken(rows, 100), memory_limit=50_000, spill=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk(rows, tmp_path, tiny, monkeypatch):
    write, written = LocalWriter.write, []

    def write_a_little(writer, array):
        written.append(array.nbytes)
        if sum(written) > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(writer, array)

    monkeypatch.setattr(LocalWriter, "write", write_a_little)
    with pytest.raises(OSError, match=r"the disk of the spill directory .* is full: free") as full:
        count_states(rows, memory_limit=50_000, spill=tmp_path)
    assert full.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(full.value)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(rows, tmp_path, tiny):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(OSError, match=r"cannot hold spill files .*: pass spill, a directory"):
        count_states(rows, memory_limit=50_000, spill=tmp_path / "file")


INTERRUPTED = """
import sys, time
import numpy as np, pytest
from tensorstate.counting import count_states
from tests.counting.limits import Reader, make_tiny

class Slow(Reader):
    def meet(self, rows):
        if rows.start > 20_000:
            print("half done", flush=True)
            time.sleep(0.3)

make_tiny(pytest.MonkeyPatch())
rows = np.random.default_rng(0).integers(0, 256, (40_000, 12), dtype=np.uint8)
count_states(Slow(rows, 500), memory_limit=100_000, spill=sys.argv[1])
"""


def test_no_files_are_left_after_ctrl_c(tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "half done\n"
    (folder,) = tmp_path.iterdir()
    assert list(folder.iterdir())
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in error
    assert process.returncode != 0
    assert not list(tmp_path.iterdir())


def test_the_next_count_removes_what_a_killed_one_left(tmp_path, tiny):
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half done\n"
        process.kill()
    (left,) = tmp_path.iterdir()
    rows = np.random.default_rng(0).integers(0, 256, (3000, 12), dtype=np.uint8)
    found = count_states(rows, memory_limit=20_000, spill=tmp_path)
    assert found.distinct == 3000
    assert found.is_stored
    assert not left.exists()
    assert len(list(tmp_path.iterdir())) == 1


class Deadly(Reader):
    """Kills the process that reads it, once, in the middle."""

    def __init__(self, rows, chunk, mark):
        super().__init__(rows, chunk)
        self.mark = mark

    def meet(self, rows):
        if rows.start > 15_000:
            try:
                Path(self.mark).touch(exist_ok=False)
            except FileExistsError:
                return
            time.sleep(0.5)  # others have files by now
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_changes_nothing(rows, tmp_path, tiny):
    mark = tmp_path / "mark"
    with local_cluster(memory_limit="2 GiB"):
        plan = plan_count(rows)
        assert not plan.spills
        assert plan.memory_limit == int(0.6 * 2**31)
        found = count_states(
            Deadly(rows, 100, str(mark)), memory_limit=100_000, spill=tmp_path / "spill"
        )
        assert mark.exists()
        assert found.is_stored
        found.save(tmp_path / "found")
    count_states(rows).save(tmp_path / "whole")
    assert files(tmp_path / "found") == files(tmp_path / "whole")
    del found
    gc.collect()
    assert not list((tmp_path / "spill").iterdir())


MEASURED = """
import sys
import dask, zarr
from tensorstate.counting import count_states, plan_count
from tests.counting.limits import resident

path, limit, result = sys.argv[1], int(sys.argv[2]), sys.argv[3]
states = zarr.open_array(path, mode="r")
with dask.config.set(scheduler="threads", num_workers=2):
    assert plan_count(states, limit).spills
    before = resident("VmRSS")
    found = count_states(states, memory_limit=limit)
assert found.is_stored
assert found.distinct == found.total == states.shape[0]
times, number = found.spectrum()
assert (times.tolist(), number.tolist()) == ([1], [states.shape[0]])
found.save(result)
print(resident("VmHWM") - before)
"""


def test_peak_memory_stays_within_the_limit(tmp_path):
    rows, limit = 20_000_000, 256 << 20
    states = zarr.create_array(
        tmp_path / "rows.zarr",
        shape=(rows, 16),
        chunks=(1 << 18, 16),
        dtype="uint8",
        compressors=None,
    )
    for start in range(0, rows, 1 << 20):
        numbers = np.arange(start, min(start + (1 << 20), rows), dtype=np.uint64)
        pairs = np.column_stack([numbers * np.uint64(0x9E3779B97F4A7C15), numbers])
        states[start : start + len(pairs)] = pairs.view(np.uint8)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path / "rows.zarr", str(limit), tmp_path / "h.zarr"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1.1 * limit
    assert {path.name for path in tmp_path.iterdir()} == {"rows.zarr", "h.zarr"}
    assert StateHistogram.load(tmp_path / "h.zarr").distinct == rows
