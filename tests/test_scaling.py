"""The model of the cost, the simulated cluster, and how the graphs of counts grow."""

import doctest
import json
import sys
from pathlib import Path

import dask
import numpy as np
import pytest

import tensorstate as ts
from benchmarks import _cost, _graphs, _results, _simulated, scaling
from benchmarks._cost import MAP, MERGE, OUTSIDE, Costs, Shape, fit, measured, spill_limit
from benchmarks._graphs import Cluster, Rows, modelled, planned, step_of
from benchmarks._simulated import Modelled, Network, simulate
from benchmarks.out_of_core import make_rows

MEMORY = 64 << 30
NOTHING = Costs(dict.fromkeys(MAP, 0.0), dict.fromkeys(MERGE, 0.0), dict.fromkeys(OUTSIDE, 0.0))


@pytest.fixture
def threads():
    """Give back the scheduler that a benchmark sets for its process."""
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


def ends_after(seconds, found, end=None):
    """Whether tasks took so long, but for what the scheduler really took, and for latencies."""
    modelled = (found.seconds if end is None else end) - found.graph_seconds
    return seconds <= modelled <= seconds + found.scheduler_seconds + 0.1


@pytest.mark.parametrize("module", [_cost, _graphs, _results, _simulated])
def test_examples_are_true(module):
    found = doctest.testmod(module)
    assert found.attempted > 0 == found.failed


# The model


def test_a_fit_finds_the_costs_that_made_the_seconds():
    rng = np.random.default_rng(0)
    map_costs = dict(zip(MAP, (2e-10, 3e-9, 1e-8, 5e-10, 1e-3), strict=True))
    merge_costs = dict(zip(MERGE, (4e-8, 6e-10, 1e-5, 2e-3), strict=True))
    outside = {"runs": 0.01, "loaded": 1e-8}
    runs = []
    for _ in range(20):
        sizes = 10 ** rng.uniform(6, 8, 8)
        facts = dict(zip(dict.fromkeys((*MAP, *MERGE)), sizes, strict=True))
        facts |= {"map_tasks": 8.0, "merge_tasks": rng.integers(2, 9), "opened": 10.0}
        facts |= {"map_tasks": float(rng.integers(1, 50)), "opened": float(rng.integers(1, 999))}
        facts |= {"runs": 1, "loaded": rng.integers(0, 10**7), "threads": 2}
        facts["map_seconds"] = sum(cost * facts[name] for name, cost in map_costs.items())
        facts["merge_seconds"] = sum(cost * facts[name] for name, cost in merge_costs.items())
        facts["outside_seconds"] = sum(cost * facts[name] for name, cost in outside.items())
        runs.append(facts)
    costs = fit(runs[:-1])
    assert costs.map == pytest.approx(map_costs)
    assert costs.merge == pytest.approx(merge_costs)
    assert costs.outside == pytest.approx(outside)
    last = runs[-1]
    whole = (last["map_seconds"] + last["merge_seconds"]) / 2 + last["outside_seconds"]
    assert costs.seconds(last) == pytest.approx(whole)


def test_costs_are_never_negative():
    runs = []
    for rows in (1e6, 2e6, 4e6):
        facts = dict.fromkeys([*MAP, *MERGE, *OUTSIDE], 1.0) | {"rows": rows, "threads": 1}
        runs.append(facts | {"map_seconds": 9e6 - rows, "merge_seconds": 0, "outside_seconds": 0})
    costs = fit(runs)
    assert min(cost for of in costs for cost in of.values()) >= 0


@pytest.mark.parametrize(
    "shape", [Shape(200_000, 16, 0, True), Shape(100_000, 8, 500, False)], ids=["files", "memory"]
)
@pytest.mark.usefixtures("threads")
def test_what_a_count_did_is_measured(tmp_path, shape):
    make_rows(tmp_path, shape.bytes // 16, ["npy"], shape.distinct or None)
    found = measured(shape, tmp_path, 2)
    rows = np.load(tmp_path / "rows.npy").reshape(-1, shape.width)
    assert found["distinct"] == len(np.unique(rows, axis=0))
    assert found["read_bytes"] == rows.nbytes
    assert found["map_seconds"] > 0
    assert found["map_tasks"] > 0
    assert found["merge_tasks"] > 0
    plan = ts.plan_count(rows, spill_limit(shape))
    assert plan.spills == shape.spills
    if shape.spills:
        # Keys of two words, and numbers of rows; and an index and padding for each file.
        entries = 20 * shape.rows
        assert entries <= found["spilled_bytes"] <= plan.spill_bytes
        assert found["opened"] % found["map_tasks"] == 0
        assert found["opened"] >= 2 * found["map_tasks"] * plan.merge_tasks
    else:
        assert found["spilled_bytes"] == found["opened"] == 0


# The simulated cluster


def test_tasks_take_their_time_and_wait_for_others():
    graph = {("a", n): (max, n, 0) for n in range(8)}
    graph["b"] = (max, list(graph))
    costs = {key: Modelled(key[0], 10.0 if key[0] == "a" else 5.0) for key in graph}
    two = simulate(graph, ["b"], costs, workers=2, threads=2)
    assert (two.tasks, two.dependencies) == (9, 8)
    assert two.busy == {"a": 80, "b": 5}
    assert ends_after(20, two, two.ends["a"])  # two rounds
    assert ends_after(25, two, two.ends["b"])
    assert two.ends["b"] == two.seconds
    one = simulate(graph, ["b"], costs, workers=1)
    assert ends_after(85, one)
    assert one.transfers == 0 < two.transfers


def test_what_is_elsewhere_takes_the_time_of_its_transfer():
    graph = {"a": (max, 1, 2), "b": (max, 3, 4), "c": (max, "a", "b")}
    costs = {key: Modelled(key, 1.0, nbytes=1000) for key in graph}
    slow = simulate(graph, ["c"], costs, workers=2, network=Network(bandwidth=100.0))
    assert (slow.transfers, slow.transferred) == (1, 1000)
    assert ends_after(12, slow)
    assert ends_after(3, simulate(graph, ["c"], costs, workers=1))


# The graphs


def test_the_graph_is_that_of_the_plan():
    count = planned(10**12, Cluster(10, 4, MEMORY))
    steps = [step_of(key) for key in count.graph]
    assert steps.count("merge") == len(count.keys) == count.merges == 80
    assert steps.count("count") == count.job.files
    assert count.rows == 10**12
    with pytest.raises(NotImplementedError, match="only be planned"):
        Rows(10)[:5]


def test_no_two_steps_of_a_spilled_count_are_tied_pair_by_pair():
    """The number of dependencies grows with map and merge tasks, not with their product."""
    for workers in (10, 1000):
        count = planned(10**12, Cluster(workers, 4, MEMORY))
        assert count.dependencies <= count.job.files + 17 * count.merges


def test_every_merge_waits_for_every_spill_file():
    count = planned(10**11, Cluster(10, 4, MEMORY))
    (written,) = (key for key in count.graph if step_of(key) == "written")
    spilled = {key for key in count.graph if step_of(key) == "count"}
    assert set(count.graph[written][1]) == spilled
    merges = [task for key, task in count.graph.items() if step_of(key) == "merge"]
    assert all(task[1][0] == written for task in merges)
    assert {name for task in merges for name in task[1][1:]} <= spilled


def test_merges_are_spread_over_all_workers():
    count = planned(10**11, Cluster(20, 4, MEMORY))
    costs = modelled(count, NOTHING, 16, 10**12)
    costs = {key: cost._replace(seconds=100.0) for key, cost in costs.items()}
    found = simulate(count.graph, count.keys, costs, 20, 4)
    # Two for each thread, and no worker gets so many more that a fourth round is needed.
    waited = found.ends["wait for all"] + found.scheduler_seconds + 1
    assert found.ends["merge"] <= waited + 3 * 100


def test_copies_in_memory_do_not_grow_with_the_square_of_the_cluster():
    few, many = (planned(10**8, Cluster(workers, 4, MEMORY)) for workers in (10, 300))
    assert few.job is None is many.job
    for count in (few, many):
        assert sum(step_of(key) == "select" for key in count.graph) <= 4096


def test_modelled_tasks_add_up_to_the_cost_of_the_count():
    rows, distinct = 10**11, 10**6
    count = planned(rows, Cluster(10, 4, MEMORY))
    one = NOTHING._replace(map=NOTHING.map | {"rows": 1e-9})
    tasks = modelled(count, one, 16, distinct)
    assert sum(task.seconds for task in tasks.values()) == pytest.approx(100)
    blocks = count.job.files
    assert count.spilled_bytes(distinct) == blocks * distinct * 24  # key, count and row
    assert count.spilled_bytes(rows) == rows * 20
    files = NOTHING._replace(merge=NOTHING.merge | {"opened": 1.0})
    merges = modelled(count, files, 16, distinct)
    opened = sum(task.seconds for task in merges.values())
    # Few states are merged at once: each task opens each file for its index, and once to read.
    assert opened == pytest.approx(count.opened(distinct))
    assert opened == 2 * blocks * count.merges


def test_what_does_not_spill_is_not_modelled():
    with pytest.raises(ValueError, match="does not spill"):
        modelled(planned(10**6, Cluster(1, 2, MEMORY)), NOTHING, 16, 10)


# The command


@pytest.mark.usefixtures("threads")
def test_all_tables_come_from_one_command(monkeypatch, capsys, tmp_path):
    def in_this_process(module, *what):
        rows, width, distinct, spills, folder, threads = what
        return measured(Shape(rows, width, distinct, bool(spills)), Path(folder), threads)

    monkeypatch.setattr(scaling, "in_own_process", in_this_process)  # to start 18 takes a minute
    small = "--rows 2e4 4e4 --check 3e4 --states 1e11 --workers 2 4 --tasks 40 80 --real 40"
    kept = tmp_path / "figures.json"
    arguments = ["scaling", *small.split(), "--folder", str(tmp_path), "--json", str(kept)]
    monkeypatch.setattr(sys, "argv", arguments)
    scaling.main()
    out = capsys.readouterr().out
    runs = [line for line in out.splitlines() if "| in memory |" in line or "| spilled |" in line]
    assert len(runs) == 18  # six kinds of three sizes
    assert sum("| no |" in line for line in runs) == 6
    assert "| spill file opened |" in out
    assert len([line for line in out.splitlines() if line.startswith("| 1e+11 |")]) == 2
    assert "| spilled: files opened |" in out
    assert "a real local cluster, µs a task" in out
    found = json.loads(kept.read_text())
    assert len(found["fitted"]) == 12
    assert len(found["predicted"]) == 6
    assert list(tmp_path.iterdir()) == [kept]


def test_a_run_has_a_process_and_files_of_its_own(tmp_path):
    found = scaling.run(Shape(30_000, 16, 100, True), str(tmp_path), 2)
    assert (found["rows"], found["distinct"], found["threads"]) == (30_000, 100, 2)
    assert found["spilled_bytes"] > 0
    assert list(tmp_path.iterdir()) == []


def test_without_room_for_the_rows_nothing_is_begun(tmp_path):
    with pytest.raises(SystemExit, match="GB are free: pass --folder"):
        scaling.run(Shape(10**15, 16, 0, True), str(tmp_path), 2)
    assert list(tmp_path.iterdir()) == []
