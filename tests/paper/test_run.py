"""Runs of a tiny grid, to the end, stopped and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from distributed import Client

from scripts.paper.__main__ import main
from scripts.paper.experiment import Settings
from scripts.paper.grid import check_settings, grid, rows_of, run_grid
from scripts.paper.networks import ARCHITECTURES
from scripts.paper.table import COLUMNS, load_table, make_table, networks_of, save_table

ROOT = Path(__file__).parents[2]
OPTIONS = """
    --architectures lenet_300_100 --widths 2 4 --epochs 1 --digits 200 --seeds 1
    --random-labels 0 75 --workers 1
"""
TINY = OPTIONS.split()


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.paper", "run", "--out", folder, *TINY],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def files(folder):
    return {file.name: file.read_bytes() for file in (folder / "rows").glob("*.json")}


def wait_for_rows(folder, process, number):
    end = time.monotonic() + 300
    while len(files(folder)) < number:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was stopped after some networks, lost one of them, and was run again."""
    folder = tmp_path_factory.mktemp("paper")
    process = start(folder)
    wait_for_rows(folder, process, 3)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    stopped = files(folder)
    assert 3 <= len(stopped) < 10, "it was stopped too late to be stopped"
    assert not (folder / "table.parquet").exists()
    # The first has to be trained again, as if its worker had been killed while it wrote the file.
    first = folder / "rows" / sorted(stopped)[0]
    first.rename(first.with_name(f".{first.name}.0123"))
    process = start(folder)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert f"{len(stopped) - 1} of 10 networks" in said
    assert "10 of 10 networks" in said
    return folder, stopped


def test_a_stopped_run_goes_on_and_measures_the_same_again(finished):
    folder, stopped = finished
    found = files(folder)
    assert len(found) == 10
    # Also the one that was lost, and was trained again from its seed.
    assert {name: found[name] for name in stopped} == stopped
    assert {file.name for file in (folder / "rows").iterdir()} == set(found)


def test_the_table_has_a_row_for_each_layer_of_each_network(finished):
    folder, _ = finished
    table = load_table(folder / "table.parquet")
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 20
    networks = networks_of(table)
    assert len(networks) == 10
    assert networks["widths"].value_counts().to_dict() == {"2-2": 4, "4-4": 4, "2-4": 1, "4-2": 1}
    assert table.attrs["settings"]["epochs"] == 1
    assert set(table["train_digits"]) == {160}
    assert set(table["states"]) == {40}
    assert table["efficiency"].between(0, 1).all()
    assert (table["efficiency_corrected"] >= table["efficiency"] - 1e-12).all()
    assert networks["memorised"].notna().equals(networks["random_labels"] == 75)
    by_labels = networks.groupby("random_labels")["wrong_labels"].mean()
    assert by_labels[0] == 0
    assert 0.55 < by_labels[75] < 0.75


def test_the_page_is_made_of_the_table(finished, capsys):
    folder, _ = finished
    assert main(["report", "--out", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "1. Efficiency falls as layers get wider: undecided" in page
    assert "LeNet-300-100 2-4" in page
    # And once more, in place of the older one.
    assert main(["report", "--out", str(folder)]) == 0
    assert main(["results", "--table", str(folder / "table.parquet")]) == 0
    assert "10 networks, 1 seeds" in capsys.readouterr().out


def test_other_settings_do_not_mix(finished, capsys):
    folder, _ = finished
    arguments = ["run", "--out", str(folder), *TINY]
    arguments[arguments.index("--epochs") + 1] = "2"
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "epochs 1 (now 2)" in said
    assert "give the same settings, or another folder" in said


@pytest.fixture(scope="module")
def client():
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0") as one:
        yield one


def tiny_grid():
    small = {"lenet_300_100": ARCHITECTURES["lenet_300_100"].with_widths([2, 4])}
    return grid(small, seeds=1, random_labels=[0, 75])


def rows_or_failure(experiment, settings):
    if experiment.network == "2-4":
        raise ArithmeticError("the loss is not a number")
    return [{"widths": experiment.network, "epochs": settings.epochs}]


def rows(experiment, settings):
    return [{"widths": experiment.network, "epochs": settings.epochs}]


def test_a_network_that_fails_is_named_and_costs_no_other(tmp_path, client):
    experiments, settings = tiny_grid(), Settings(epochs=3)
    with pytest.raises(RuntimeError, match=r"network lenet_300_100_2-4_plain_random0_seed0 failed"):
        run_grid(experiments, settings, tmp_path, client, measured_by=rows_or_failure)
    kept = files(tmp_path)
    (tmp_path / "rows" / ".another.json.0123").touch()
    assert "lenet_300_100_2-4_plain_random0_seed0.json" not in kept
    seen = []
    run_grid(
        experiments,
        settings,
        tmp_path,
        client,
        measured_by=rows,
        advance=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 10) for done in range(len(kept), 11)]
    assert [row["widths"] for row in rows_of(experiments, tmp_path)] == [
        each.network for each in experiments
    ]
    assert not (tmp_path / "rows" / ".another.json.0123").exists()


def test_rows_that_are_missing_or_damaged(tmp_path, client):
    experiments = tiny_grid()
    with pytest.raises(FileNotFoundError, match="was not measured yet; run it first"):
        rows_of(experiments, tmp_path)
    run_grid(experiments, Settings(), tmp_path, client, measured_by=rows)
    (tmp_path / "rows" / f"{experiments[3].name}.json").write_text('[{"wid')
    with pytest.raises(ValueError, match=f"{experiments[3].name}.json holds no rows.*remove it"):
        rows_of(experiments, tmp_path)


def test_settings_are_noted_once(tmp_path):
    check_settings(tmp_path / "new", Settings())
    check_settings(tmp_path / "new", Settings())
    assert json.loads((tmp_path / "new" / "settings.json").read_text())["data"] == "digits"
    with pytest.raises(ValueError, match=r"data digits \(now mnist\)"):
        check_settings(tmp_path / "new", Settings(data="mnist"))


def test_a_file_that_is_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"make it first, with python -m scripts\.paper"):
        load_table(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(ValueError, match="is no Parquet file"):
        load_table(tmp_path / "text.parquet")
    save_table(make_table([], {}), tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="it lacks rows"):
        load_table(tmp_path / "empty.parquet")
    make_table([], {})[["layer"]].to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="it lacks the columns architecture, widths"):
        load_table(tmp_path / "other.parquet")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--out", "x", "--seeds", "0"],
        ["run", "--out", "x", "--random-labels", "101"],
        ["run", "--out", "x", "--architectures", "lenet_6"],
        ["run", "--out", "x", "--data", "cifar"],
        ["run"],
        [],
    ],
)
def test_bad_options_are_refused(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_a_report_needs_a_table(tmp_path, capsys):
    assert main(["report", "--out", str(tmp_path)]) == 1
    assert "there is no table" in capsys.readouterr().err
