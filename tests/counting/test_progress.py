"""What is shown of how far something is: on a terminal, in a log, on a cluster, or nothing."""

import re
import sys
import threading
import time
from contextlib import suppress

import click
import dask
import numpy as np
import pexpect
import pytest
from dask.callbacks import Callback
from dask.utils import parse_bytes

import tensorstate as ts
from tensorstate.counting import count_states, displays, progress
from tensorstate.counting.displays import Figures, Terminal
from tensorstate.counting.progress import Work, show_progress, telling, unseen
from tensorstate.counting.spill import SpillDirectory
from tests.clusters import local_cluster

ROWS = 2_000_000
LINE = re.compile(r"^(.+): ([\d,]+) of ([\d,]+) (.+?)(?:,| in) .* memory(?:, (.*) spilled)?$")


@pytest.fixture
def all_lines(monkeypatch):
    """Let no line be left out."""
    monkeypatch.setattr(displays, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(displays.Lines, "interval", 0.01)


def distinct_rows():
    return np.random.default_rng(0).integers(0, 256, (ROWS, 16), dtype=np.uint8)


def lines_of(capfd):
    """Return what lines on standard error say: what, done, total, unit, spilled."""
    out, err = capfd.readouterr()
    assert out == ""
    return [LINE.match(line).groups() for line in err.splitlines() if " memory" in line]


def number(text):
    return int(text.replace(",", ""))


def test_lines_when_the_output_is_no_terminal(capfd, all_lines):
    with show_progress(Work("capturing", "instances", 30), True, done=10) as advance:
        advance(5)
        first = ""
        while "15 of 30" not in first:
            first = capfd.readouterr().err
        advance(15)
    out, err = capfd.readouterr()
    assert out == ""
    assert re.search(r"^capturing: 15 of 30 instances, [\d,]+/s, .* left, ", first, re.MULTILINE)
    last = err.splitlines()[-1]
    assert last.startswith("capturing: 30 of 30 instances in ")
    assert last.endswith("iB memory")


def test_nothing_is_shown_to_who_did_not_ask(capfd, all_lines, monkeypatch):
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.0)
    rows = np.zeros((1000, 2), np.uint8)
    count_states(rows)
    count_states(rows, progress=False)
    with dask.config.set({"tensorstate.progress": False}):
        count_states(rows)
    with telling("layer", False), show_progress(Work("counting", "states", 5)) as advance:
        assert advance is unseen
    assert capfd.readouterr() == ("", "")
    with dask.config.set({"tensorstate.progress": True}):
        count_states(rows)
    assert "counting: 1,000 of 1,000 states" in capfd.readouterr().err


@pytest.mark.parametrize("limit", ["1 GiB", "150 MiB"])
def test_a_count_shows_all_of_its_states_and_its_spill(capfd, all_lines, tmp_path, limit):
    rows = distinct_rows()
    with telling("conv_1"):
        histogram = count_states(rows, memory_limit=limit, spill=tmp_path, progress=True)
    assert histogram.distinct == ROWS
    shown = lines_of(capfd)
    assert {(what, total, unit) for what, _, total, unit, _ in shown} == {
        ("counting conv_1", f"{ROWS:,}", "states")
    }
    done = [number(found[1]) for found in shown]
    assert done == sorted(done)
    assert done[-1] == ROWS
    spilled = [found[4] for found in shown]
    if limit == "1 GiB":
        assert set(spilled) == {None}
    else:
        sizes = [parse_bytes(size) for size in spilled]
        assert sizes == sorted(sizes)
        # A key and a row number of each state, at least; and no more than the disk had.
        assert ROWS * 20 * 0.99 <= sizes[-1] <= ROWS * 40
    assert not Callback.active


def test_the_error_of_a_count_is_shown_with_how_far_it_came(capfd):
    class Broken:
        shape, dtype = (1000, 2), np.dtype(np.uint8)

        def __getitem__(self, rows):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        count_states(Broken(), progress=True)
    assert "counting: 0 of 1,000 states in" in capfd.readouterr().err
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("progress")]


@pytest.mark.parametrize("url", [False, True])
def test_the_size_of_a_spill_is_that_of_its_files(tmp_path, url):
    directory = SpillDirectory.create("memory://progress" if url else str(tmp_path))
    before = directory.size()
    for name, size in (("a", 100_000), ("b", 4096)):
        with directory.writing(name) as write:
            write(np.zeros(size, np.uint8))
    if not url:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert directory.size() == sum(path.stat().st_size for path in files)
    assert 104_096 <= directory.size() - before < 104_096 + 2 * 4096
    directory.remove()
    with suppress(OSError):
        assert directory.size() == 0


class Awaited:
    """Rows that are all different; the last of them wait until a file is there."""

    shape, dtype = (ROWS, 16), np.dtype(np.uint8)

    def __init__(self, path):
        self.path = path

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(ROWS)
        until = time.monotonic() + 120
        while stop == ROWS and not self.path.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        numbers = np.zeros((stop - start, 2), "<u8")
        numbers[:, 1] = np.arange(start, stop)
        return numbers.view(np.uint8)


def test_a_cluster_shows_its_states_and_spill_on_the_way(capfd, all_lines, tmp_path):
    seen, on_the_way = tmp_path / "seen", []

    def watch():
        until = time.monotonic() + 120
        while not any(0 < number(found[1]) < ROWS for found in on_the_way):
            if time.monotonic() > until:
                return
            time.sleep(0.05)
            on_the_way.extend(lines_of(capfd))
        seen.touch()

    watching = threading.Thread(target=watch)
    with local_cluster():
        options = {"memory_limit": "150 MiB", "spill": tmp_path, "progress": True}
        watching.start()
        assert count_states(Awaited(seen), **options).distinct == ROWS
        watching.join()
    shown = on_the_way + lines_of(capfd)
    done = [number(found[1]) for found in shown]
    assert done == sorted(done)
    assert done[-1] == number(shown[-1][2]) == ROWS
    assert parse_bytes(shown[-1][4]) >= ROWS * 20 * 0.99
    assert seen.exists(), "nothing was shown on the way"


@pytest.fixture
def run(tmp_path):
    rng = np.random.default_rng(0)
    with ts.StateRecorder("conv_1", tmp_path / "run") as recorder:
        recorder.record(rng.normal(size=(40, 30, 12)))
    return ts.open_run(tmp_path / "run")


LAYER = [
    (lambda layer: layer.histogram(progress=True), "counting conv_1: 1,200 of 1,200 states"),
    (lambda layer: layer.histogram([0, 1], progress=True), "counting conv_1: 60 of 60 states"),
    (
        lambda layer: layer.histogram(by=np.arange(40) % 2, progress=True),
        "counting by label conv_1: 1,200 of 1,200 states",
    ),
]
RUN = [
    (lambda run, path: run.verify(progress=True), "verifying: 1 of 1 chunks"),
    (
        lambda run, path: run.salvage(path / "new", progress=True),
        "salvaging: 40 of 40 instances of all layers",
    ),
    (
        lambda run, path: run.linear_regions(progress=True),
        "counting: 40 of 40 states",
    ),
]


@pytest.mark.parametrize(("act", "says"), LAYER)
def test_counts_of_a_layer_tell_how_far_they_are(run, capfd, act, says):
    act(run["conv_1"])
    assert says in capfd.readouterr().err


@pytest.mark.parametrize(("act", "says"), RUN)
def test_what_is_done_with_a_run_tells_how_far_it_is(run, tmp_path, capfd, act, says):
    act(run, tmp_path)
    assert says in capfd.readouterr().err


def test_neurons_tell_how_far_they_are(run, capfd):
    with dask.config.set({"tensorstate.progress": True}):
        run["conv_1"].neuron_summary()
    assert "adding up: 1,200 of 1,200 states" in capfd.readouterr().err


SLOW = """
import sys, time
import numpy as np
from tensorstate.counting import count_states, progress

class Slow:
    shape, dtype = (3_000_000, 2), np.dtype(np.uint8)
    def __getitem__(self, rows):
        time.sleep(float(sys.argv[1]))
        return np.zeros((rows.stop - rows.start, 2), np.uint8)

progress.SILENT_SECONDS = float(sys.argv[2])
assert count_states(Slow()).total == 3_000_000
print("done")
"""


@pytest.mark.parametrize(("seconds", "silent", "is_shown"), [(0.4, 0.2, True), (0.0, 60.0, False)])
def test_a_terminal_shows_what_takes_a_while(seconds, silent, is_shown):
    terminal = pexpect.spawn(
        sys.executable,
        ["-c", SLOW, str(seconds), str(silent)],
        encoding="utf-8",
        dimensions=(40, 120),
        timeout=120,
    )
    terminal.expect("done")
    shown = click.unstyle(terminal.before)
    terminal.expect(pexpect.EOF)
    assert ("counting ━" in shown) == is_shown
    assert ("3,000,000 of 3,000,000 states" in shown) == is_shown


def test_the_bar_tells_rate_time_memory_and_spill(capfd):
    seconds = iter([0.0])
    figures = Figures(
        "counting [0]", "states", 100, 20, clock=lambda: next(seconds, 4.0), spilled=5 << 20
    )
    figures.done, figures.memory = 40, 3 << 20
    bar = Terminal(figures)
    bar.open()
    bar.close()
    err = capfd.readouterr().err
    assert re.search(r"counting \[0\] .* 40 of 100 states", err)
    assert "5/s, 12 s left, 4 s so far, 3.00 MiB memory, 5.00 MiB spilled" in err
