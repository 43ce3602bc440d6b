"""The command with arguments and options that nobody should give, on runs that are whole or not.

Whatever it is given, it ends with a code that its help tells of, says why in a line, and has
written nothing if it failed on what it was given. An exception that nobody handles would be a
traceback.
"""

import contextlib
import io
import os
import shutil
import signal
import sys
from importlib import import_module
from pathlib import Path
from unittest import mock

import click
import dask
import distributed  # noqa: F401  (its configuration is there before it is changed)
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tensorstate as ts
from tensorstate.cli import main
from tests.cli.programs import ARRAY_NAME, NET, ROOT, STREAM_NAME, Ended, command
from tests.strategies import reproducible

CODES = {0, 1, 2, 3}
SECONDS_EACH = 60
EXAMPLES = {"count": 60, "plan": 60, "info": 60, "verify": 60, "report": 40, "capture": 60}

LONG = "a" * 5000
# Bytes that are no UTF-8 come as these from a command line.
TEXTS = [
    "",
    " ",
    ".",
    "..",
    "-",
    "--",
    "ä 🦊/\u202e",
    "\udcff\udc80",
    LONG,
    "a\nb",
    "%s{0}",
    "'\"`$(",
]
NUMBERS = [
    *(
        "0",
        "1",
        "-1",
        "3",
        "007",
        "1e309",
        "nan",
        "-inf",
        "0x10",
        "1_0",
        "½",
        "٣",
        "9" * 30,
        "9" * 5000,
    ),
    *(
        "2 GiB",
        "1 B",
        "1e-9 GB",
        "-5 MB",
        "80%",
        "1/255",
        "1/0",
        "0/2",
        "5/2",
        "1/-1",
        "2/x",
        "3,,3",
    ),
]
PLACES = ["nosuch", "nosuch://bucket/run", "memory://nothing", "file:///nosuch/run", "nosuch:thing"]
PROGRAMS = [NET, ARRAY_NAME, STREAM_NAME, "tests.cli.programs:ROOT", "os:getcwd"]
PROGRAMS += ["os.path:", ":", ".x:y"]
LAYERS = ["equal", "varies", "live", "nosuch", "../run", ".labels"]


class TooSlowError(BaseException):
    """The command takes too long: no error that anybody handles."""


def give_up(*_):
    raise TooSlowError(f"it takes more than {SECONDS_EACH} s")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with runs that are whole, runs that are damaged, and what is no run."""
    folder = tmp_path_factory.mktemp("command")
    rng = np.random.default_rng(0)
    equal = ts.StateRecorder("equal", folder / "run")
    varies = ts.StateRecorder("varies", folder / "run", variable_positions=True)
    live = ts.StateRecorder("live", folder / "run", histogram="live")
    equal.record(rng.normal(size=(30, 4, 20)))
    varies.record(rng.normal(size=(30, 4, 9)), rng.integers(0, 5, 30))
    live.record(rng.normal(size=(30, 2, 7)))
    equal.close()
    ts.open_run(folder / "run").set_labels(np.arange(30) % 3)
    for name, lost in [
        ("chunk", "equal/part-0/states/c/0/0"),
        ("metadata", "varies/zarr.json"),
        ("root", "zarr.json"),
        ("array", "equal/part-0/states/zarr.json"),
        ("layer", "live"),
        ("labels", ".labels"),
        ("offsets", "varies/part-0/offsets"),
    ]:
        shutil.copytree(folder / "run", folder / f"lost {name}")
        path = folder / f"lost {name}" / lost
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for document in ("zarr.json", "equal/zarr.json"):
        cut = folder / f"cut {document.partition('/')[0]}"
        shutil.copytree(folder / "run", cut)
        os.truncate(cut / document, 50)
    (folder / "empty").mkdir()
    (folder / "text").write_text("no run\n")
    (folder / "page.html").write_text("<p>mine")
    (folder / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    np.save(folder / "array.npy", rng.normal(size=(6, 1, 8, 8)).astype(np.float32))
    zarr.save(folder / "array.zarr", np.zeros((3, 3)))
    for name in ("pipe", "pipe.npy", "pipe.npz", "pipe.zip", "pipe.html", "pipe.keras"):
        os.mkfifo(folder / name)
    (folder / "loop").symlink_to("loop")
    return folder


def contents(folder):
    """Return all files below a folder, but those of caches, which any command may write."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if "/histogram" not in name and not path.is_symlink():
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def run(*arguments):
    """Run the command in this process, with a terminal that takes UTF-8 only."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = [signal.getsignal(number) for number in signals]
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS_EACH)
    try:
        with (
            mock.patch.object(sys, "argv", ["tensorstate", *arguments]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            dask.config.set({"distributed.comm.timeouts.connect": "100ms"}),
        ):
            main()
    except SystemExit as ended:
        code = ended.code
    finally:
        signal.alarm(0)
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
    out.flush()
    err.flush()
    return Ended(code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode())


def options_of(name):
    """Return the options of a command, and whether they are flags."""
    parameters = getattr(import_module(f"tensorstate.cli.{name}"), name).params
    left_out = {"--cluster"}  # it starts processes: see below
    return [
        (option.opts[-1], option.is_flag)
        for option in parameters
        if isinstance(option, click.Option) and option.opts[-1] not in left_out
    ]


def values(folder):
    names = sorted(path.name for path in folder.iterdir())
    here = [str(folder / name) for name in names]
    there = [str(folder / f"new-{text}") for text in ("run", "ä 🦊", "a/b/c", "x.html")]
    text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
    odd = st.sampled_from([*TEXTS, *NUMBERS, *PLACES, *PROGRAMS, *LAYERS])
    return st.one_of(
        st.sampled_from([str(folder / "run"), *here]), st.sampled_from(there), odd, text
    )


@st.composite
def command_lines(draw, name, folder):
    any_value = values(folder)
    arguments = []
    for option, is_flag in draw(st.lists(st.sampled_from(options_of(name)), max_size=4)):
        arguments += [option] if is_flag else [option, draw(any_value)]
    if name == "capture":
        likely = st.one_of(st.sampled_from([NET, ARRAY_NAME, str(folder / "array.npy")]), any_value)
        arguments += [draw(st.one_of(st.just(NET), likely)), draw(likely)]
        arguments += [
            "-o",
            draw(any_value),
            "--attach-to",
            draw(st.sampled_from(["ReLU", "x", ""])),
        ]
    else:
        runs = st.sampled_from([str(p) for p in folder.iterdir() if p.is_dir()])
        arguments += draw(st.lists(st.one_of(runs, any_value), min_size=1, max_size=2))
    return arguments


def check(ended, name, arguments):
    """Check how a command ended, whatever it was given."""
    lines = ended.stderr.splitlines()
    assert ended.returncode in CODES, ended
    assert "Traceback" not in ended.stderr, ended
    if ended.returncode in (1, 2):
        assert ended.stderr.strip(), "it does not say why"
    if ended.returncode == 1:
        assert any(line.startswith(("tensorstate: ", "Error: ")) for line in lines), ended
    if ended.returncode == 2:
        assert "Usage: tensorstate" in ended.stderr
    if ended.returncode == 3 and name != "verify":
        assert any(line.startswith("tensorstate: ") for line in lines), ended


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", EXAMPLES)
def test_any_arguments(name, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = contents(folder)

    @settings(
        reproducible,
        max_examples=EXAMPLES[name],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(arguments=command_lines(name, folder))
    def try_one(arguments):
        ended = run(name, *arguments)
        check(ended, name, arguments)
        after = contents(folder)
        try:
            # What was there is as it was, but for a page that is written over one of before.
            assert {path: after.get(path) for path in before} == before
            written = sorted(after.keys() - before.keys())
            if ended.returncode in (1, 2):
                assert not written, (ended, written)
                assert not [*tmp_path.iterdir()], [*tmp_path.iterdir()]
        finally:
            for path in (*folder.glob("new-*"), *tmp_path.iterdir()):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    try_one()


@pytest.mark.parametrize(
    "arguments",
    [
        ["count", "--cluster", "nosuch"],
        ["count", "--cluster", "nosuch:Cluster"],
        ["info", "--cluster", "os:getcwd"],
        ["info", "--cluster", "os:sep"],
        ["info", "--cluster", ".x:y"],
        ["verify", "--cluster", "local", "--scheduler", "tcp://127.0.0.1:1"],
        ["plan", "--cluster", "local", "--cluster-options", "[1, 2"],
        ["count", "--cluster", "local", "--cluster-options", "{nosuch_option: 1}"],
        ["count", "--scheduler", "tcp://127.0.0.1:1"],
        ["count", "--scheduler", "\udcff"],
    ],
)
def test_clusters_that_cannot_be_had(folder, arguments):
    ended = run(*arguments, str(folder / "run"))
    assert ended.returncode in (1, 2)
    check(ended, arguments[0], arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epochs", "0"],
        ["--epochs", "½"],
        ["--folder", "{folder}/text"],
        ["--nosuch"],
        ["\udcff"],
    ],
)
def test_demo(folder, arguments):
    ended = run("demo", *(argument.format(folder=folder) for argument in arguments))
    assert ended.returncode in (1, 2)
    check(ended, "demo", arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["count", "--memory-limit", "½", "{folder}/run"],
        ["info", "{folder}/pipe"],
        ["verify", os.fsdecode(b"\xff\x80")],
        ["verify", "{folder}/lost layer"],
        ["count", LONG],
    ],
)
def test_as_a_program(folder, arguments):
    ended = command(*(argument.format(folder=folder) for argument in arguments), timeout=60)
    assert ended.returncode in CODES - {0}
    check(ended, arguments[0], arguments)


def test_the_codes_are_those_of_the_help():
    text = " ".join(run("--help").stdout.split())
    assert "Exit codes: 0 done, 1 failed, 2 usage, 3 damage found, 130 interrupted." in text
    assert Path(ROOT).is_dir()


@pytest.mark.parametrize(
    "arguments",
    [
        ["capture", "{folder}/pipe", ARRAY_NAME, "-o", "new", "--attach-to", "x"],
        ["capture", "{folder}/pipe.keras", ARRAY_NAME, "-o", "new", "--attach-to", "x"],
        ["capture", NET, "{folder}/pipe", "-o", "new", "--attach-to", "ReLU"],
        ["capture", NET, "{folder}/pipe.npy", "-o", "new", "--attach-to", "ReLU"],
        ["capture", NET, "{folder}/pipe.npz", "-o", "new", "--attach-to", "ReLU"],
        ["capture", NET, ARRAY_NAME, "-o", "{folder}/pipe", "--attach-to", "ReLU"],
        ["report", "-o", "{folder}/pipe.html", "{folder}/run"],
        ["report", "-o", "new.html", "{folder}/pipe"],
        ["info", "{folder}/pipe.zip"],
        ["verify", "--salvage", "{folder}/pipe", "{folder}/lost chunk"],
        ["count", "--memory-limit", "1 MB", "--spill", "{folder}/pipe", "{folder}/pipe"],
    ],
)
def test_pipes_are_not_waited_for(folder, arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ended = run(*(argument.format(folder=folder) for argument in arguments))
    assert ended.returncode in (1, 2)
    check(ended, arguments[0], arguments)
    assert not [*tmp_path.iterdir()]
