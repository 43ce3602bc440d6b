"""Files of a run and of a saved histogram that are cut, flipped, emptied, lost or swapped."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks._faults.case import RIGHT, TOLD, Case, Chance, LostError, WrongError
from tests.faults.mutated import read, write

__all__ = ["CASES", "KINDS"]

KINDS = ["cut", "flipped", "emptied", "lost", "swapped"]


@dataclass
class Subject:
    """A run and a histogram, and what is read from them.

    Attributes
    ----------
    folder : Path
        Where they are.
    expected : dict
        What is read.
    tries : list of (Path, str)
        Each file, with each kind of damage.
    """

    folder: Path
    expected: dict[str, Any]
    tries: list[tuple[Path, str]]


def _prepare(folder: Path, cached: bool) -> Subject:
    write(folder)
    if not cached:
        for cache in folder.glob("run/*/histogram"):
            shutil.rmtree(cache)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return Subject(folder, read(folder), list(product(files, KINDS)))


def _injure(subject: Subject, folder: Path, draw: Chance) -> str:
    shutil.copytree(subject.folder, folder, dirs_exist_ok=True)
    name, kind = subject.tries[draw.number % len(subject.tries)]
    path = folder / name
    content = path.read_bytes()
    if kind == "lost":
        path.unlink()
    elif kind == "emptied":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(content[: draw.randrange(max(len(content), 1))])
    elif kind == "flipped":
        place = draw.randrange(max(len(content), 1))
        flipped = bytes(byte ^ 1 << draw.randrange(8) for byte in content[place : place + 1])
        path.write_bytes(content[:place] + flipped + content[place + 1 :])
    else:
        is_metadata = name.name == "zarr.json"
        others = [file for file, _ in subject.tries if (file.name == "zarr.json") == is_metadata]
        other = folder / draw.choice(others)
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
        return f"{name} swapped with {other.relative_to(folder)}"
    return f"{name} {kind}"


def _check(subject: Subject, folder: Path) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a cache that is counted again
            found = read(folder)
    except (ValueError, OSError) as error:
        if not str(error):
            raise LostError("an error without a text") from error
        return TOLD
    other = [name for name in subject.expected if found.get(name) != subject.expected[name]]
    if set(other) - {"damage"}:
        raise WrongError(f"other numbers for {other}")
    return TOLD if other else RIGHT


CASES = [
    Case(
        "damage",
        "a file of a run, or of a histogram, damaged or swapped",
        800,
        lambda folder: _prepare(folder, cached=False),
        _injure,
        _check,
    ),
    Case(
        "damage-cached",
        "the same of a run whose counts are cached",
        1000,
        lambda folder: _prepare(folder, cached=True),
        _injure,
        _check,
    ),
]
