"""Commands that are stopped: by SIGTERM, by Ctrl-C on a terminal, and by being told twice."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pexpect
import pytest

import tensorstate as ts
from tests.cli.programs import ARRAY, ROOT, counts_of, expected_counts, program, resume_command

SLOW = "tests.cli.test_interrupted:slow"


def slow(start=0):
    """Yield the instances of `ARRAY` in batches of 4, tell of each, and rest."""
    for first in range(start, len(ARRAY), 4):
        print("at", first, file=sys.stderr, flush=True)
        yield ARRAY[first : first + 4]
        time.sleep(0.1)


def capture(path, *options):
    arguments = ("capture", "tests.cli.programs:net", SLOW, "-o", path, "--attach-to", "Conv2d")
    return program(*arguments, "--attach-to", "ReLU", *options)


def wait_until_at(process, instance):
    """Wait until a capture asks for the batch after an instance."""
    for line in process.stderr:
        if line.startswith("at") and int(line.split()[1]) > instance:
            return
    pytest.fail("the capture ended before it was stopped")


def stop(process):
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_stopped_by_sigterm_and_resumed_twice_as_if_it_never_was(tmp_path):
    path = tmp_path / "run"
    arguments, committed = capture(path, "--json"), 0
    for _ in range(2):
        process = subprocess.Popen(
            arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_until_at(process, committed + 8)
        code, out, err = stop(process)
        assert code == 130, err
        told = json.loads(out)
        assert not told["complete"]
        run = ts.open_run(path)
        assert committed < run.instances == told["instances"] < len(ARRAY)
        assert f"stopped after {run.instances} instances, which are committed" in err
        committed = run.instances
        for layer in run.values():
            assert layer.instance_count == committed
        assert not list(path.glob(".lock*"))
        arguments = program(*resume_command(err))
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    run = ts.open_run(path)
    for module, layer in enumerate(run.values()):
        assert counts_of(layer) == expected_counts(ARRAY, module)


def test_ctrl_c_on_a_terminal(tmp_path):
    path = tmp_path / "run"
    name, *arguments = capture(path, "--overwrite")
    terminal = pexpect.spawn(name, arguments, cwd=ROOT, encoding="utf-8", dimensions=(40, 160))
    terminal.expect("at 12", timeout=120)
    assert "capturing" in terminal.before
    terminal.sendintr()
    terminal.expect(r"stopped after (\d+) instances, which are committed; go on with", timeout=120)
    assert int(terminal.match[1]) == ts.open_run(path).instances > 0
    terminal.expect(r"tensorstate capture .* --resume", timeout=120)
    assert "--overwrite" not in terminal.match[0]
    terminal.expect(pexpect.EOF, timeout=120)
    terminal.close()
    assert terminal.exitstatus == 130


@pytest.fixture
def large(tmp_path):
    """A run whose count spills for a while, and the arguments of a process that counts it."""
    rows = np.random.default_rng(0).integers(0, 256, (12_000_000, 16), dtype=np.uint8)
    from tensorstate.storage import LayerInfo, RunWriter

    writer = RunWriter(tmp_path / "run")
    writer.add_layer("layer", LayerInfo(128, 1))
    writer.put("layer", rows)
    writer.close()
    spill = tmp_path / "spill"
    options = ("--memory-limit", "150 MiB", "--spill", spill)
    return spill, program("count", *options, tmp_path / "run")


def wait_for_files(folder):
    for _ in range(6000):
        if folder.exists() and any(folder.rglob("*")):
            return
        time.sleep(0.01)
    pytest.fail("nothing was spilled")


def test_a_count_that_is_stopped_by_sigterm_removes_its_spill(large):
    spill, arguments = large
    process = subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_files(spill)
    code, out, err = stop(process)
    assert (code, out) == (130, "")
    assert err.endswith("tensorstate: interrupted\n")
    assert list(spill.iterdir()) == []


def test_a_count_on_a_terminal_that_is_stopped_removes_its_spill(large):
    spill, (name, *arguments) = large
    terminal = pexpect.spawn(name, arguments, cwd=ROOT, encoding="utf-8", dimensions=(40, 160))
    wait_for_files(spill)
    terminal.sendintr()
    terminal.expect("tensorstate: interrupted", timeout=120)
    terminal.expect(pexpect.EOF, timeout=120)
    terminal.close()
    assert terminal.exitstatus == 130
    assert list(spill.iterdir()) == []


UNREGISTERED = """
import sys
from concurrent.futures import ThreadPoolExecutor, thread
import dask.threaded
from tensorstate.cli import main

pool = dask.threaded.default_pool = ThreadPoolExecutor(1)
pool.submit(int).result()
thread._threads_queues.clear()
sys.argv = "tensorstate capture tests.cli.test_interrupted:interrupt x -o y --attach-to z".split()
main()
"""


def interrupt():
    raise KeyboardInterrupt


def test_a_thread_that_was_just_being_started_does_not_keep_the_process():
    """What a signal leaves between the start of a thread and its registration is waited for."""
    ended = subprocess.run([sys.executable, "-c", UNREGISTERED], cwd=ROOT, timeout=120)
    assert ended.returncode == 130
