import dask
import numpy as np
import pytest
from dask.callbacks import Callback
from rich.console import Console

from tensorstate import count_states
from tensorstate.cli import progress
from tensorstate.cli.progress import show_counting, show_progress


def test_lines_when_the_output_is_no_terminal(capfd, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with show_progress("capturing", "instances", 30, done=10) as advance:
        advance(5)
        advance(15)
    out, err = capfd.readouterr()
    assert out == ""
    first, second, last = err.splitlines()
    assert first.startswith("capturing: 15 of 30 instances, ")
    assert "s left, " in first
    assert second.startswith("capturing: 30 of 30 instances, ")
    assert last.startswith("capturing: 30 of 30 instances in ")
    assert last.endswith("iB memory")


def test_quiet(capfd):
    with show_progress("capturing", "instances", None, quiet=True) as advance:
        advance(5)
    with show_counting("layer", 5, quiet=True):
        assert dask.config.get("tensorstate.progress") is False
    assert dask.config.get("tensorstate.progress", None) is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("limit", ["1 GiB", "150 MiB"])
def test_a_count_shows_all_of_its_states(capfd, limit):
    rows = np.random.default_rng(0).integers(0, 256, (2_000_000, 16), dtype=np.uint8)
    with show_counting("conv_1", len(rows)):
        count_states(rows, memory_limit=limit)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("counting conv_1: 2,000,000 of 2,000,000 states in")
    assert not Callback.active


def test_the_bar_tells_rate_and_memory():
    bar = progress._bar("capturing", "instances")
    bar.add_task("capturing [0]", total=100, completed=40, done_before=20)
    console = Console(width=160, record=True, quiet=False)
    with console.capture() as captured:
        console.print(bar.get_renderable())
    shown = captured.get()
    assert "capturing [0]" in shown
    assert " 40/100 instances " in shown
    assert "/s " in shown
    assert "iB" in shown
