"""Every command as people run it: on a terminal, and as a program whose output is read by others.

Both have the same life of a run: captured, planned, counted, shown, verified, damaged, salvaged.
"""

import json
import os
import re
import subprocess

import click
import pexpect
import pytest

import tensorstate as ts
from tests.cli.programs import (
    ARRAY,
    ARRAY_NAME,
    NET,
    ROOT,
    command,
    counts_of,
    expected_counts,
    program,
    put_on_path,
)


def on_terminal(*arguments):
    """Run a command on a terminal, to its end; return its exit code and what the terminal shows."""
    name, *rest = program(*arguments)
    terminal = pexpect.spawn(
        name, rest, cwd=ROOT, encoding="utf-8", dimensions=(50, 160), timeout=300
    )
    terminal.expect(pexpect.EOF)
    terminal.close()
    return terminal.exitstatus, click.unstyle(terminal.before)


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """A run that was captured on a terminal, and what that showed."""
    path = tmp_path_factory.mktemp("terminal") / "run"
    arguments = ("--attach-to", "Conv2d", "--attach-to", "ReLU", "--batch-size", 7)
    return path, *on_terminal("capture", NET, ARRAY_NAME, "-o", path, *arguments)


def test_capture_on_a_terminal(captured):
    path, code, shown = captured
    assert code == 0, shown
    assert re.search(r"capturing ━+.* 60 of 60 instances", shown)
    assert re.search(r"/s, 0 s left, .* so far, .*iB memory", shown)
    assert f"{path}: 60 instances of 0_states, 1_states" in shown
    # What is counted by that is kept, too.
    assert counts_of(ts.open_run(path)["0_states"]) == expected_counts(ARRAY)


def test_plan_count_info_and_verify_on_a_terminal(captured):
    path, _, _ = captured
    code, shown = on_terminal("plan", path)
    assert code == 0, shown
    assert re.search(r"0_states +│ +2,160 ", shown)
    code, counted = on_terminal("count", path)
    assert code == 0, counted
    assert re.search(r"counting 1_states ━+ 2,160 of 2,160 states", counted)
    code, shown = on_terminal("info", path)
    assert code == 0, shown
    assert "counting" not in shown, "what is counted is read from the run"
    assert shown.splitlines()[-1] == counted.splitlines()[-1]
    efficiency = ts.network_efficiency(ts.open_run(path))
    assert shown.splitlines()[-1] == f"Network efficiency: {100 * efficiency:.1f} %"
    code, shown = on_terminal("verify", path)
    assert code == 0, shown
    assert "verifying ━" in shown
    assert "whole: 2 layers, 60 instances" in shown


def test_damage_on_a_terminal(captured, tmp_path):
    path, _, _ = captured
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", path, copy], check=True)
    (copy / "1_states/part-0/states/c/0/0").write_bytes(b"")
    code, shown = on_terminal("verify", "--salvage", tmp_path / "new", copy)
    assert code == 1, shown
    assert "no instance that is whole in every layer" in shown
    code, shown = on_terminal("verify", copy)
    assert code == 3, shown
    assert re.search(r"1_states +│ +0 ", shown)


def test_demo_on_a_terminal(tmp_path):
    code, shown = on_terminal("demo", "--folder", tmp_path, "--epochs", 1)
    assert code == 0, shown
    assert re.search(r"Layer conv_1_states number of states: \d+", shown)
    assert re.search(r"aIQ: [\d.]+%\s*$", shown)


def test_every_command_as_a_program(tmp_path):
    path = tmp_path / "run"
    arguments = ("-o", path, "--attach-to", "Conv2d", "--batch-size", 7)
    ended = command("capture", NET, ARRAY_NAME, *arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["instances"] == 60
    assert ended.stderr.startswith("capturing: ")
    ended = command("plan", "--json", path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["plans"][0]["rows"] == 2160
    counted = command("count", "--json", path)
    assert counted.returncode == 0, counted.stderr
    assert "counting 0_states: 2,160 of 2,160 states" in counted.stderr
    info = command("info", "--json", path)
    assert (info.returncode, info.stdout, info.stderr) == (0, counted.stdout, "")
    found = json.loads(info.stdout)["layers"][0]
    assert found["distinct"] == len(expected_counts(ARRAY))
    ended = command("verify", "--json", path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {"instances": 60, "damage": [], "salvaged": None}
    (path / "0_states/part-0/states/c/0/0").unlink()
    ended = command("verify", "--json", "--quiet", path)
    assert (ended.returncode, ended.stderr) == (3, "")
    (damage,) = json.loads(ended.stdout)["damage"]
    assert (damage["layer"], damage["chunk"]) == ("0_states", 0)


def test_completion_in_a_shell(tmp_path):
    """As the help says, in a real bash."""
    shown = command("--help").stdout
    (line,) = re.findall(r'^ +(eval "\$\(_TENSORSTATE_COMPLETE=.*\)")$', shown, re.MULTILINE)
    lines = [
        line,
        "complete -p tensorstate",
        "COMP_WORDS=(tensorstate ver) COMP_CWORD=1",
        "_tensorstate_completion tensorstate",
        'echo "${COMPREPLY[@]}"',
    ]
    ended = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        env={**os.environ, "PATH": put_on_path(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert "-F _tensorstate_completion tensorstate" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "verify"


def test_versions_of_the_libraries():
    shown = command("--version").stdout
    for name in ("tensorstate", "python", "numpy", "zarr", "dask", "numba", "torch"):
        assert re.search(rf"\b{name} \d+\.\d+", shown), name
