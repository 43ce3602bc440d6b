"""Several real processes that write one run at once, also killed ones: as if one had written it.

Every process writes the part of a shard of the instances. The moments of a kill are drawn with a
fixed seed, which pytest shows with a failure. TENSORSTATE_KILLS=100 runs the long form.
"""

import multiprocessing
import os
import random
import time

import numpy as np
import pytest

import tensorstate as ts
from benchmarks.kills import NEURONS, POSITIONS, activations, expected
from tensorstate.counting import count_states
from tensorstate.storage import LayerInfo, RunWriter, open_run

PROCESSES, SHARD, BATCH, ROUNDS = 4, 150, 10, 12

spawn = multiprocessing.get_context("spawn")


def capture_shard(path, part, go, pause):
    """Capture a shard from wherever its part stands, as a batch job would."""
    first = part * SHARD
    recorders = [
        ts.StateRecorder(
            name, path, mode="resume", queue_bytes=400_000, part=part, first_instance=first
        )
        for name in NEURONS
    ]
    done = open_run(path).parts.get(str(part), range(first, first)).stop
    go.wait()
    for number, start in enumerate(range(done, first + SHARD, BATCH)):
        for recorder in recorders:
            batch = activations(recorder.name, start, min(start + BATCH, first + SHARD))
            recorder.record(batch)
        if number % 3 == 2:
            recorders[0].flush()
        time.sleep(pause)
    recorders[0].close()


def start(target, *arguments):
    process = spawn.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def end(processes):
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def check(path):
    """Compare every committed instance with its activations; return how many there are."""
    run = open_run(path)
    numbers = np.concatenate([np.arange(0), *(list(r) for r in run.parts.values())])
    numbers = np.sort(numbers).astype(int)
    assert run.instances == len(numbers)
    for name, layer in run.items():
        rows = expected(name, PROCESSES * SHARD).reshape(PROCESSES * SHARD, POSITIONS[name], -1)
        rows = rows[numbers].reshape(-1, rows.shape[-1])
        np.testing.assert_array_equal(np.asarray(layer.raw_states), rows)
    return run.instances


def check_complete(path):
    assert check(path) == PROCESSES * SHARD
    run = open_run(path)
    assert list(run) == list(NEURONS)
    for name, layer in run.items():
        rows = expected(name, PROCESSES * SHARD)
        assert layer.histogram() == count_states(rows)
        index = [PROCESSES * SHARD - 1, 0, SHARD]
        chosen = rows.reshape(PROCESSES * SHARD, POSITIONS[name], -1)[index]
        chosen = chosen.reshape(-1, rows.shape[1])
        found = layer.raw_states[layer.histogram(index).first_rows]
        assert {row.tobytes() for row in found} == {row.tobytes() for row in chosen}
        assert layer.counts(index).sum() == len(chosen)
    assert not list(path.glob(".lock*"))


@pytest.mark.timeout(300)
def test_a_reader_sees_whole_instances_while_four_processes_write(tmp_path):
    path = tmp_path / "run"
    go = spawn.Barrier(PROCESSES + 1)
    processes = [start(capture_shard, path, part, go, 0.02) for part in range(PROCESSES)]
    go.wait(120)
    seen = [0]
    while any(process.is_alive() for process in processes):
        seen.append(check(path))
    end(processes)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2, "nothing was seen while it was written"
    check_complete(path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(int(os.environ.get("TENSORSTATE_KILLS", "2"))))
def test_processes_that_are_killed_and_resumed(tmp_path, seed):
    moments = random.Random(seed)
    path = tmp_path / "run"
    committed = 0
    for _ in range(2):
        go = spawn.Barrier(PROCESSES + 1)
        processes = [start(capture_shard, path, part, go, 0.02) for part in range(PROCESSES)]
        go.wait(120)
        for process in moments.sample(processes, 2):
            time.sleep(moments.uniform(0, 0.3))
            process.kill()
        for process in processes:
            process.join(120)
        now = check(path)
        assert now >= committed, "committed instances are lost"
        committed = now
    go = spawn.Barrier(PROCESSES)
    end([start(capture_shard, path, part, go, 0) for part in range(PROCESSES)])
    check_complete(path)


INFO = LayerInfo(8, 1)


def create_and_write(folder, part, together, results):
    """Create, or join, one run after another, all processes at the same moment."""
    for number in range(ROUNDS):
        together.wait(120)
        writer = RunWriter(folder / str(number), part=part, first_instance=10 * part)
        writer.add_layer("layer", INFO)
        writer.put("layer", np.full((10, 1), part, np.uint8))
        results.put((number, open_run(folder / str(number)).attributes["uuid"]))
        writer.close()


@pytest.mark.timeout(300)
def test_one_of_the_processes_creates_the_run_and_the_others_join_it(tmp_path):
    together, results = spawn.Barrier(PROCESSES), spawn.Queue()
    processes = [
        start(create_and_write, tmp_path, part, together, results) for part in range(PROCESSES)
    ]
    found = [results.get(timeout=120) for _ in range(PROCESSES * ROUNDS)]
    end(processes)
    assert len(set(found)) == ROUNDS, "a run was created twice"
    for number in range(ROUNDS):
        layer = open_run(tmp_path / str(number))["layer"]
        assert np.asarray(layer.raw_states).ravel().tolist() == sorted([*range(PROCESSES)] * 10)


def open_the_same(folder, options, together, results):
    """Open the same part of one run after another, all processes at the same moment."""
    for number in range(ROUNDS):
        together.wait(120)
        try:
            writer = RunWriter(folder / str(number), **options)
        except FileExistsError as error:
            writer = None
            results.put((number, str(error)))
        else:
            results.put((number, ""))
        together.wait(120)
        if writer is not None:
            writer.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "options", [{}, {"part": 1, "first_instance": 0}], ids=["alone", "of one part"]
)
@pytest.mark.parametrize("mode", ["x", "w", "resume"])
def test_one_of_the_processes_writes_and_the_others_are_refused(tmp_path, mode, options):
    together, results = spawn.Barrier(3), spawn.Queue()
    options = {"mode": mode, **options}
    processes = [start(open_the_same, tmp_path, options, together, results) for _ in range(3)]
    found = [results.get(timeout=120) for _ in range(3 * ROUNDS)]
    end(processes)
    for number in range(ROUNDS):
        errors = sorted(error for n, error in found if n == number)
        assert errors[0] == ""
        for error in errors[1:]:
            assert "in another process" in error or "already holds a run" in error


@pytest.mark.timeout(300)
def test_a_writer_that_is_alone_and_one_of_several_exclude_each_other(tmp_path):
    together, results = spawn.Barrier(2), spawn.Queue()
    alone, part = {"mode": "resume"}, {"mode": "resume", "part": 1, "first_instance": 0}
    processes = [
        start(open_the_same, tmp_path, options, together, results) for options in (alone, part)
    ]
    found = [results.get(timeout=120) for _ in range(2 * ROUNDS)]
    end(processes)
    for number in range(ROUNDS):
        opened = [error for n, error in found if n == number].count("")
        assert opened <= 1, "both of them write"
