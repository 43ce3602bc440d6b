"""`tensorstate count` and `tensorstate plan` against what the package says."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import tensorstate as ts
from tensorstate.cli import _commands
from tests.cli.programs import command


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(0)
    with ts.StateRecorder("wide", tmp_path / "run") as wide:
        wide.record(rng.normal(size=(40, 100)))
        with ts.StateRecorder("narrow", tmp_path / "run") as narrow:
            narrow.record(rng.normal(size=(40, 300, 3)))
    return tmp_path / "run"


def test_counts_are_shown_and_kept(path):
    ended = command("count", path)
    assert ended.returncode == 0, ended.stderr
    assert "counting wide: 40 of 40 states" in ended.stderr
    assert "counting narrow: 12,000 of 12,000 states" in ended.stderr
    assert "Network efficiency: " in ended.stdout
    for name in ("wide", "narrow"):
        # What was counted is read, and no chunk of states any more.
        for chunk in (path / name / "part-0/states/c").rglob("[0-9]*"):
            if chunk.is_file():
                chunk.unlink()
    again = command("info", path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == ended.stdout


def test_for_machines_and_layer_by_layer(here, path):
    ended = here("count", "--json", "-q", "--layer", "narrow", "--memory-limit", "1 GiB", path)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = json.loads(ended.stdout)
    run = ts.open_run(path)
    assert [layer["layer"] for layer in found["layers"]] == ["narrow"]
    assert found["layers"][0]["efficiency"] == run["narrow"].efficiency()
    assert found["network_efficiency"] is None
    assert not (path / "wide/histogram").exists()


def test_a_layer_without_states(here, tmp_path):
    from tensorstate.storage import LayerInfo, RunWriter

    writer = RunWriter(tmp_path / "run")
    writer.add_layer("empty", LayerInfo(4, 2))
    writer.close()
    ended = here("count", tmp_path / "run")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "empty" in ended.stdout


@pytest.mark.parametrize("name", ["count", "plan"])
def test_usage(here, path, name):
    ended = here(name, "--layer", "deep", path)
    assert ended.returncode == 2
    assert "the run has no layer 'deep'; there are: wide, narrow" in ended.stderr
    ended = here(name, "--memory-limit", "much", path)
    assert ended.returncode == 2
    assert "not a number of bytes" in ended.stderr
    ended = here(name, "--memory-limit", "1 kB", path)
    assert ended.returncode == 1
    assert "is the smallest that would do" in ended.stderr
    assert ended.stderr.count("\n") - ended.stderr.count("memory\n") == 1


@pytest.mark.parametrize("name", ["count", "plan", "info", "verify"])
def test_what_is_no_whole_run(here, path, tmp_path, name):
    for missing in (tmp_path / "nothing", tmp_path / "nothing.zarr"):
        ended = here(name, missing)
        assert ended.returncode == 1
        assert ended.stderr == f"tensorstate: there is no run at {missing}: nothing is there\n"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("text")
    ended = here(name, tmp_path / "folder")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "is not a run of tensorstate" in ended.stderr
    group = zarr.open_group(path, mode="r+")
    group.attrs["tensorstate"] = {**group.attrs["tensorstate"], "format": 99}
    ended = here(name, path)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "has store format 99" in ended.stderr
    assert "install a newer one" in ended.stderr


def test_a_half_deleted_store(here, path):
    (path / "narrow/part-0/states/c/0/0").unlink()
    ended = here("count", "--quiet", path)
    assert ended.returncode == 3
    assert "layer narrow, part 0, chunk 0" in ended.stderr
    assert here("verify", path).returncode == 3
    assert here("plan", path).returncode == 0
    assert not (path / "narrow/histogram").exists()


HALF = {
    "zarr.json": (1, "is not a run of tensorstate: it holds no Zarr group"),
    "narrow/zarr.json": (3, "has parts of narrow, but not what was captured there"),
    "narrow/part-0/states/zarr.json": (3, "part-0 has no array 'states': the run is damaged"),
}


@pytest.mark.parametrize("name", ["count", "plan", "info", "verify"])
@pytest.mark.parametrize("lost", HALF)
def test_metadata_that_are_gone(here, path, name, lost):
    (path / lost).unlink()
    before = stored(path)
    ended = here(name, path)
    assert (ended.returncode, ended.stderr.count("\n"), ended.stdout) == (HALF[lost][0], 1, "")
    assert HALF[lost][1] in ended.stderr
    assert stored(path) == before


@pytest.mark.parametrize("name", ["count", "plan", "info", "verify"])
@pytest.mark.parametrize("lost", ["", "narrow/", "narrow/part-0/states/"])
def test_metadata_that_are_cut_short(here, path, name, lost):
    file = path / lost / "zarr.json"
    file.write_bytes(file.read_bytes()[:100])
    before = stored(path)
    ended = here(name, path)
    assert (ended.returncode, ended.stderr.count("\n"), ended.stdout) == (3, 1, "")
    assert f"{path}" in ended.stderr
    assert "are damaged: they are no JSON" in ended.stderr
    assert stored(path) == before


def test_a_part_that_is_gone_is_damage(here, path):
    shutil.rmtree(path / "narrow/part-0")
    ended = here("verify", "--json", "--salvage", path.with_name("new"), path)
    assert ended.returncode == 1
    assert "no instance that is whole" in ended.stderr
    assert not path.with_name("new").exists()
    found = json.loads(here("verify", "--json", path).stdout)["damage"]
    assert [(one["layer"], one["part"], one["last_instance"]) for one in found] == [
        ("narrow", "0", 39)
    ]
    assert here("verify", path).returncode == 3


def stored(folder):
    """Return all files below a folder, with what they hold."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_plan_tells_what_the_count_would_take(here, path):
    options = ("--memory-limit", "1 GiB", "--spill", "/somewhere")
    found = json.loads(here("plan", "--json", *options, path).stdout)["plans"]
    for plan, layer in zip(found, ts.open_run(path).values(), strict=True):
        expected = asdict(ts.plan_count(layer.raw_states, "1 GiB", "/somewhere"))
        assert plan == {"layer": layer.name, **expected}
    assert not (path / "wide/histogram").exists()


def test_plan_of_arrays(here, tmp_path):
    states = np.zeros((2_000_000, 16), np.uint8)
    np.save(tmp_path / "states.npy", states)
    zarr.create_array(tmp_path / "states.zarr", data=states, chunks=(10_000, 16))
    for name in ("states.npy", "states.zarr"):
        ended = here("plan", "--memory-limit", "150 MiB", tmp_path / name)
        assert ended.returncode == 0, ended.stderr
        line = next(line for line in ended.stdout.splitlines() if name in line)
        assert "2,000,000" in line
        assert "spills at most so much below" in ended.stdout
        ended = here("plan", "--layer", "a", tmp_path / name)
        assert ended.returncode == 2
        assert "is an array, without layers" in ended.stderr
    np.save(tmp_path / "floats.npy", np.zeros((3, 3)))
    ended = here("plan", tmp_path / "floats.npy")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "floats.npy: states has the type float64, not uint8" in ended.stderr


def test_completion_of_commands_and_layers(path):
    def complete(words, number):
        environment = {
            "_TENSORSTATE_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(number),
        }
        runner = CliRunner(env=environment)
        return runner.invoke(_commands, prog_name="tensorstate").output.split()

    assert complete("tensorstate co", 1) == ["plain,count"]
    assert complete(f"tensorstate count {path} --layer w", 4) == ["plain,wide"]
    assert complete(f"tensorstate count {path}-not --layer w", 4) == []
