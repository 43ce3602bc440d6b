"""The page of the documentation against the table that was kept, and the table against the code."""

import dataclasses
import re
from pathlib import Path

import pytest
from PIL import Image

from scripts.paper.experiment import Settings
from scripts.paper.grid import grid
from scripts.paper.markdown import results
from scripts.paper.networks import ARCHITECTURES
from scripts.paper.table import IDENTITY, load_table, networks_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "paper.md"
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


@pytest.fixture(scope="module")
def table():
    return load_table(ROOT / "scripts" / "paper" / "table.parquet")


def test_the_page_has_the_results_of_the_table(table):
    assert results(table).strip() in PAGE.read_text()


def test_what_is_said_of_the_results_has_no_number_of_its_own(table):
    found = results(table)
    known = set(NUMBER.findall(found)) | {n.lstrip("+-") for n in NUMBER.findall(found)}
    said = PAGE.read_text().split("## What to make of it")[1]
    numbers = {number.rstrip(",") for number in NUMBER.findall(said)}
    # Small whole numbers count claims, layers and seeds.
    unknown = {n for n in numbers - known if not re.fullmatch(r"\d", n)}
    assert not unknown


def test_the_table_is_of_the_grid_and_the_settings_of_the_command(table):
    experiments = grid(ARCHITECTURES, 3, [0, 25, 50, 75])
    expected = {
        tuple({**dataclasses.asdict(each), "widths": each.network}[name] for name in IDENTITY)
        for each in experiments
    }
    found = set(networks_of(table)[IDENTITY].itertuples(index=False, name=None))
    assert found == expected
    assert table.attrs["settings"] == dataclasses.asdict(Settings())
    assert "python -m scripts.paper run --out build/paper\n" in PAGE.read_text()


def test_the_picture_is_there():
    (name,) = re.findall(r"!\[[^\]]+\]\((\S+)\)", PAGE.read_text())
    with Image.open(PAGE.parent / name) as picture:
        assert min(picture.size) > 300
