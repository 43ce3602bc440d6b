"""The documentation: its commands are run as they stand there, and its pages need no network.

Examples in Python are doctests, which pytest collects by itself.
"""

import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

import tensorstate as ts
from tests import slurm
from tests.s3 import s3_server

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = {str(path.relative_to(DOCS)): path.read_text() for path in sorted(DOCS.rglob("*.md"))}

# What is shown and not run: commands that install something, that measure for long or that need
# what no test has; and a folder's tree.
SHOWN = {
    "installation.md": 2,
    "how-to/slurm.md": 1,
    "explanation/memory.md": 1,
    "explanation/paper.md": 1,
    "explanation/reliability.md": 1,
    "reference/store-format.md": 1,
}


def blocks(text, language):
    return [content for found, content in FENCE.findall(text) if found == language]


WITH_COMMANDS = [name for name, text in PAGES.items() if blocks(text, "sh")]


@pytest.fixture
def run(tmp_path):
    """Run the commands of a page in a folder of their own, with this environment's programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in (
        ("python", ""),
        ("tensorstate", "-m tensorstate"),
        ("dask", "-m dask"),
    ):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {command} "$@"\n')
        program.chmod(0o755)

    def run(page, **environment):
        for name in ("scripts", "benchmarks"):
            (tmp_path / name).symlink_to(ROOT / name)
        commands = "\n".join(blocks(PAGES[page], "sh"))
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        ended = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", commands],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    return run


@pytest.mark.parametrize("page", [p for p in WITH_COMMANDS if p != "how-to/slurm.md"])
def test_commands_as_printed(run, page, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    if page != "how-to/s3.md":
        run(page)
        return
    with s3_server() as server:
        server.set_environment(monkeypatch)
        run(page)


@pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing())
def test_commands_for_slurm(run, tmp_path, tmp_path_factory):
    with slurm.one_node_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        run("how-to/slurm.md", **{**environment, "TENSORSTATE_ENV": sys.prefix})
        queue = ["squeue", "--noheader"]
        slurm.wait_until(lambda: not subprocess.check_output(queue, env=environment).strip(), 300)
    logs = {path.name: path.read_text() for path in tmp_path.glob("*.log")}
    stored = ts.open_run(tmp_path / "run.zarr")
    assert stored.parts == {"0": range(500), "1": range(500, 1000)}, logs
    assert (tmp_path / "run.zarr" / "0_states" / "histogram").exists(), logs


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_code_is_run(page):
    text = PAGES[page]
    assert {name for name, _ in FENCE.findall(text) if not name.startswith("{")} <= {
        "python",
        "sh",
        "text",
    }
    assert len(blocks(text, "text")) == SHOWN.get(page, 0)
    for block in blocks(text, "python"):
        assert block.startswith(">>> "), block
        assert block.endswith("\n\n"), f"the end is taken for output: {block}"


def test_every_extra_is_listed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = re.findall(r"^\| `(\w+)` \|", PAGES["installation.md"], re.MULTILINE)
    assert sorted(listed) == sorted(project["optional-dependencies"])


class Resources(HTMLParser):
    """What a browser loads to show a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.found.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.found.append(given["href"])


def test_the_pages_are_built_without_a_warning_and_load_nothing_from_elsewhere(tmp_path):
    (command,) = re.findall(r"`(sphinx-build [^`]*)`", (ROOT / "README.md").read_text())
    assert command in (DOCS / "installation.md").read_text()
    assert f".venv/bin/{command}\n" in (ROOT / "scripts" / "test.sh").read_text()
    *arguments, output = command.split()[1:]
    assert output == "build/docs"
    ended = subprocess.run(
        [sys.executable, "-m", "sphinx", *arguments, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert ended.returncode == 0, ended.stderr
    pages = {page: page.read_text() for page in tmp_path.rglob("*.html")}
    for page, text in pages.items():
        resources = Resources()
        resources.feed(text)
        assert resources.found
        for address in resources.found:
            assert "//" not in address, f"{page.name} loads {address}"
            assert (page.parent / address.split("?")[0]).exists()
    for name in set(dir(ts)) - {"__version__"}:
        anchors = sum(text.count(f'id="tensorstate.{name}"') for text in pages.values())
        assert anchors == 1, f"{name} is not in the reference"
