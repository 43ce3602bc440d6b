"""Counting on a cluster of Dask's own commands, joined by address; and what its workers take."""

import gc
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import numpy as np
import pytest
import zarr

from tensorstate.counting import count_states, plan_count
from tests.clusters import SECONDS, dask_commands, local_cluster
from tests.counting.limits import Reader, files, resident

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def stored(rows, tmp_path_factory):
    """Rows in Zarr, and the files of what the threads of this process count."""
    folder = tmp_path_factory.mktemp("stored")
    states = zarr.create_array(
        folder / "rows.zarr", shape=rows.shape, chunks=(500, rows.shape[1]), dtype="uint8"
    )
    states[...] = rows
    with dask.config.set(scheduler="threads"):
        count_states(rows).save(folder / "whole")
    return states, files(folder / "whole")


class Halting(Reader):
    """Rows that one process begins to read and then waits; a file says that it does."""

    def __init__(self, rows, chunk, process, mark):
        super().__init__(rows, chunk)
        self.process, self.mark = process, mark

    def meet(self, rows):
        if os.getpid() == self.process:
            self.mark.touch()
            time.sleep(SECONDS)
            raise TimeoutError("nobody killed this process")


def wait_until(is_true):
    end = time.monotonic() + SECONDS
    while not is_true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


def test_commands_of_dask_joined_by_address(stored, tmp_path, tiny):
    states, expected = stored
    spill = tmp_path / "spill"
    with dask_commands(tmp_path) as (client, workers):
        numbers = client.run(os.getpid).values()
        assert sorted(numbers) == sorted(worker.pid for worker in workers)
        found = count_states(states, memory_limit=50_000, spill=spill)
        assert found.is_stored
        found.save(tmp_path / "found")
        assert files(tmp_path / "found") == expected

        del found

        halting = Halting(states, 500, workers[0].pid, tmp_path / "mark")
        with ThreadPoolExecutor(1) as pool:
            counting = pool.submit(count_states, halting, memory_limit=50_000, spill=spill)
            wait_until(lambda: halting.mark.exists() and any(spill.glob("*/*")))
            workers[0].kill()
            assert workers[0].wait(SECONDS) == -signal.SIGKILL
            counting.result(SECONDS).save(tmp_path / "again")
        assert files(tmp_path / "again") == expected
        assert list(client.run(os.getpid).values()) == [workers[1].pid]
    del counting
    gc.collect()
    assert not list(spill.iterdir())


def begin_measuring():
    """Forget the most that this process had, and return what it has, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def test_peak_memory_of_workers_stays_within_the_limit(tmp_path):
    rows, limit = 8_000_000, 160 << 20
    numbers = np.arange(rows, dtype=np.uint64)
    distinct = np.column_stack([numbers * np.uint64(0x9E3779B97F4A7C15), numbers])
    states = zarr.create_array(
        tmp_path / "rows.zarr",
        data=distinct.view(np.uint8),
        chunks=(1 << 17, 16),
        compressors=None,
    )
    with local_cluster(memory_limit="2 GiB") as client:
        plan = plan_count(states, limit)
        assert plan.spills
        assert plan.peak_memory <= limit
        before = client.run(begin_measuring)
        found = count_states(states, memory_limit=limit, spill=tmp_path / "spill")
        after = client.run(resident, "VmHWM")
    assert found.distinct == found.total == rows
    peaks = [after[worker] - before[worker] for worker in before]
    assert len(peaks) == 2
    assert all(0.1 * limit < peak < 1.1 * limit for peak in peaks), peaks
