"""The README's commands, run as they stand there."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(command, **environment):
    return subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=1500,
    )


def readme_commands():
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]


def test_the_demo_runs_as_printed_and_trains_only_once():
    assert readme_commands() == ["bash scripts/demo.sh", "bash scripts/test.sh"]
    # What is left in the user's environment must not matter.
    left = {"PYTHONPATH": "/nowhere", "KERAS_BACKEND": "torch", "VIRTUAL_ENV": "/nowhere"}
    first = run("bash scripts/demo.sh", **left)
    assert first.returncode == 0, first.stdout + first.stderr
    for line in ("Layer conv_1_states number of states:", "Network efficiency:", "aIQ:", "Done."):
        assert line in first.stdout
    assert re.search(r"conv_3_states .*100 .* %\*", first.stdout)
    second = run("bash scripts/demo.sh")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "Using the trained model" in second.stdout
    assert "Epoch" not in second.stdout


def test_scripts_say_why_they_fail():
    result = run("bash scripts/demo.sh --no-such-option")
    assert result.returncode != 0
    assert re.search("No such option.*--no-such-option", result.stderr)
    assert "The demo failed: the lines above say why." in result.stderr


def test_scripts_need_a_python_and_say_which(tmp_path):
    for name in ("scripts", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "dirname", "cmp"):
        path = subprocess.run(["which", tool], capture_output=True, text=True, check=True)
        (tmp_path / "bin" / tool).symlink_to(path.stdout.strip())
    result = subprocess.run(
        ["/bin/bash", tmp_path / "scripts" / "demo.sh"],
        env={"PATH": str(tmp_path / "bin")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert "Python 3.11 to 3.14 is needed" in result.stderr
    assert not (tmp_path / ".venv").exists()
