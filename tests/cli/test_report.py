"""`tensorstate report`: a page of one or several runs, and what it refuses."""

import json

import pytest

import tensorstate as ts
from tests.cli.programs import command
from tests.report.runs import recorded


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run.zarr"
    recorded(path, {"wide": (4, 40), "narrow": (9, 3)})
    return path


def test_a_page_is_made_with_progress(path, tmp_path):
    page = tmp_path / "page.html"
    ended = command("report", path, "-o", page, "--title", "Small & <new>")
    assert ended.returncode == 0, ended.stderr
    assert "counting wide: 240 of 240 states" in ended.stderr
    assert "drawing: " in ended.stderr
    assert ended.stdout == f"Small & <new>: {page}\n"
    assert "<h1>Small &amp; &lt;new&gt;</h1>" in page.read_text()


def test_for_machines(here, path, tmp_path):
    other = tmp_path / "other.zarr"
    recorded(other, {"narrow": (9, 3)}, instances=10)
    page = tmp_path / "page.html"
    accuracies = ("--accuracy", "0.9", "--accuracy", "0.8")
    ended = here("report", "--json", "-q", path, other, "-o", page, *accuracies)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = json.loads(ended.stdout)
    assert (found["report"], found["bytes"]) == (str(page), page.stat().st_size)
    for told, run, accuracy in zip(found["runs"], (path, other), (0.9, 0.8), strict=True):
        run = ts.open_run(run)
        assert told["accuracy"] == accuracy
        assert told["network_efficiency"] == ts.network_efficiency(run)
        assert told["aIQ"] == ts.aIQ(ts.network_efficiency(run), accuracy, weight=2)
        assert [layer["layer"] for layer in told["layers"]] == list(run)
        assert [layer["entropy"] for layer in told["layers"]] == [
            layer.entropy() for layer in run.values()
        ]


def test_what_cannot_be_done_is_said_in_a_sentence(here, path, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for arguments, message in (
        ((tmp_path / "nothing", "-o", tmp_path / "a.html"), "nothing is there"),
        ((path, "-o", tmp_path / "no/folder/a.html"), "there is no folder"),
        ((path, "-o", tmp_path), "is a folder"),
        ((path, "-o", tmp_path / "notes.txt"), "is not a report of tensorstate"),
        ((path, "-o", tmp_path / "a.html", "--memory-limit", "1 kB"), "is the smallest"),
    ):
        ended = here("report", "--quiet", *arguments)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
        assert message in ended.stderr
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_damage_is_told_and_leaves_no_page(here, tmp_path):
    path = tmp_path / "run.zarr"
    recorded(path, {"layer": (9, 3)})
    (path / "layer/part-0/states/c/0/0").unlink()
    ended = here("report", "--quiet", path, "-o", tmp_path / "page.html")
    assert ended.returncode == 3
    assert "layer layer, part 0, chunk 0" in ended.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["run.zarr"]


def test_usage(here, path):
    ended = here("report")
    assert ended.returncode == 2
    ended = here("report", path, "--accuracy", "94.5")
    assert ended.returncode == 2
    assert "94.5 is not in the range 0<=x<=1" in ended.stderr
    ended = here("report", path, "--accuracy", "0.9", "--accuracy", "0.8")
    assert ended.returncode == 2
    assert "1 run needs 1 accuracy, or none, not 2" in ended.stderr
