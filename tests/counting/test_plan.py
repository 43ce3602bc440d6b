import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstate as ts
from tensorstate.counting import count_states, memory, plan_count, schedulers, sources
from tests.counting.limits import Reader
from tests.strategies import reproducible

ROWS = np.broadcast_to(np.uint8(0), (400_000_000, 16))


@pytest.fixture(autouse=True)
def two_threads():
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


def test_a_generous_limit_needs_no_files():
    plan = ts.plan_count(ROWS[:1_000_000], "8 GiB")
    assert not plan.spills
    assert plan.spill_bytes == 0
    assert plan.memory_limit == 8 << 30
    assert plan.rows == 1_000_000
    assert plan.bytes_read == 16_000_000
    assert plan.map_tasks == plan.at_once == 2
    assert 50_000_000 < plan.peak_memory < 300_000_000


def test_a_small_limit_does():
    plan = plan_count(ROWS, "1 GiB", "/somewhere")
    assert plan.spills
    assert plan.peak_memory == plan.memory_limit == 1 << 30
    assert plan.spill == "/somewhere"
    assert 400e6 * 50 < plan.spill_bytes < 400e6 * 52
    assert plan.map_tasks * plan.block_rows >= 400e6
    assert 2 * plan.block_rows * 50 < 1 << 30
    text = repr(plan)
    assert "400,000,000 states of 16 bytes, merged in files below /somewhere" in text
    assert "1.00 GiB for each process" in text


def test_tasks_are_fewer_at_once_where_chunks_are_large():
    states = Reader(ROWS, 20_000_000)
    assert plan_count(states, "8 GiB").at_once == 2
    assert plan_count(states, "3 GiB").at_once == 1


@pytest.mark.parametrize(
    "states",
    [
        ROWS,
        Reader(ROWS, 5_000_000),
        da.zeros((400_000_000, 16), chunks=(4_000_000, -1), dtype=np.uint8),
    ],
)
def test_a_limit_that_is_too_small_names_the_smallest_that_would_do(states):
    for ask in (plan_count, lambda states, limit: count_states(states, memory_limit=limit)):
        with pytest.raises(ValueError, match="the smallest that would do") as refused:
            ask(states, "1 MiB")
        least = int(str(refused.value).rpartition(": ")[2].split()[0])
    assert plan_count(states, least).memory_limit == least
    with pytest.raises(ValueError, match="too small to count 400,000,000 states of 16 bytes"):
        plan_count(states, least - 1)


def as_dask(rows, chunk):
    return da.zeros(rows.shape, chunks=(chunk, -1), dtype=np.uint8)


@pytest.mark.parametrize("scheduler", ["threads", "processes", "synchronous"])
@pytest.mark.parametrize("limit", ["8 GiB", "300 MiB"])
@pytest.mark.parametrize("make", [Reader, as_dask, lambda rows, chunk: rows])
@settings(reproducible, max_examples=20)
@given(st.integers(1, 20_000_000), st.integers(1000, 1_000_000), st.integers(1, 9))
def test_as_many_map_tasks_as_there_are_blocks(make, limit, scheduler, rows, chunk, threads):
    states = make(ROWS[:rows], max(chunk, rows // 1000))
    with dask.config.set(scheduler=scheduler, num_workers=threads):
        plan, where = plan_count(states, limit), schedulers.find_scheduler()
        most = plan.block_rows if plan.spills else None
        blocks, _, _ = sources.cut(
            states, where.threads, in_process=where.in_process, most_rows=most
        )
    # What is left over at the end may fit into the last block.
    assert plan.map_tasks - 1 <= len(blocks) <= plan.map_tasks


def test_nothing_to_count():
    plan = plan_count(np.zeros((0, 3), np.uint8), "1 GiB")
    assert (plan.rows, plan.map_tasks, plan.spills) == (0, 0, False)


@pytest.mark.parametrize("limit", ["a lot", "0 B", -1, 0, float("nan"), float("inf"), [1]])
def test_limits_that_are_none(limit):
    with pytest.raises(ValueError, match=r"memory_limit is .*: give"):
        plan_count(ROWS, limit)
    with (
        dask.config.set({"tensorstate.memory-limit": limit}),
        pytest.raises(ValueError, match=r"tensorstate.memory-limit in Dask's configuration is"),
    ):
        plan_count(ROWS)


def test_the_limit_is_configured():
    with dask.config.set({"tensorstate.memory-limit": "3 GiB"}):
        assert plan_count(ROWS).memory_limit == 3 << 30
        assert plan_count(ROWS, 2e9).memory_limit == 2_000_000_000


def test_by_default_it_is_half_of_what_is_available():
    assert plan_count(ROWS[:1]).memory_limit == pytest.approx(
        memory.available_memory() / 2, rel=0.1
    )
    with dask.config.set(scheduler="processes"):
        assert plan_count(ROWS[:1]).memory_limit == pytest.approx(
            memory.available_memory() / 4, rel=0.1
        )


def test_a_default_limit_refuses_nothing(monkeypatch):
    monkeypatch.setattr(schedulers, "available_memory", lambda: 1000)
    rows = np.arange(6, dtype=np.uint8).reshape(3, 2)
    assert count_states(rows).distinct == 3
    assert plan_count(ROWS).spills


def test_control_groups_are_respected(tmp_path):
    machine = memory.available_memory(tmp_path)
    assert machine > 1 << 28
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 400\n")
    assert memory.available_memory(tmp_path) == pytest.approx(machine, rel=0.1)
    (tmp_path / "memory.max").write_text("100000\n")
    assert memory.available_memory(tmp_path) == 100_000 - 600
    old = tmp_path / "memory"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("50000\n")
    (old / "memory.usage_in_bytes").write_text("60000\n")
    (old / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 20000\n")
    assert memory.available_memory(tmp_path) == 10_000


def test_bad_input_is_refused_before_it_is_planned():
    with pytest.raises(TypeError, match="not uint8"):
        plan_count(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="rows of zero bytes"):
        plan_count(zarr.zeros((3, 0), dtype="uint8", store={}, chunks=(1, 1)))
