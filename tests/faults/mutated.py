"""Metadata that were damaged or forged: what is read is right, or is refused with a clear error.

    python -m tests.faults.mutated [--examples 300] [--seed 0]

A small run and a saved histogram are written, and one of their metadata files is changed at a time:
a value is replaced, removed or given another type, or the file is cut, flipped, emptied or lost. If
it was damaged, so that its checksum does not fit, everything that is read has to be as before, or
to be refused. If it was forged, with a checksum that fits, it may tell anything, but has to be
refused or read within the limits. Every error is one that is documented, and memory is limited to
little more than the process has from the beginning: what exceeds it is a MemoryError, which is none
of them. One line of JSON tells how many were tried, refused and right; the exit code is 1, and what
happened is printed, if something was wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from zarr.storage import LocalStore

import tensorstate as ts
from tensorstate.nodes import CHECKSUM, with_checksum
from tests.storage.metadata import as_before_checksums

EXTRA_BYTES = 1 << 30
SECONDS_EACH = 20

ABSURD = [
    *(0, 1, -1, 7, 255, 2**31, 2**48, 10**15, 2**63, 2**64, 10**30, -(10**15), 1.5, 1e308),
    *(
        True,
        False,
        None,
        "",
        "0",
        "x",
        "..",
        "../..",
        "/etc",
        "a/b",
        "\0",
        "\ud800",
        "numcodecs.pickle",
    ),
    *([], [0], [1, 1, 1], [10**15, 10**15], [-1], ["a"], {}, {"name": "x"}, [[[[[]]]]]),
]


def write(folder: Path) -> None:
    """Write a run with all that a run may have, and a histogram."""
    rng = np.random.default_rng(0)
    recorders = [
        ts.StateRecorder("equal", folder / "run", queue_bytes=200_000),
        ts.StateRecorder("live", folder / "run", histogram="live"),
        ts.StateRecorder("varies", folder / "run", variable_positions=True),
    ]
    for _ in range(3):
        recorders[0].record(rng.normal(size=(500, 20, 40)))
        recorders[1].record(rng.normal(size=(500, 3, 9)))
        recorders[2].record(rng.normal(size=(500, 4, 20)), rng.integers(0, 5, 500))
        recorders[0].flush()
    recorders[0].close()
    run = ts.open_run(folder / "run")
    run.set_labels(np.arange(1500) % 3)
    run.summary()
    run["equal"].histogram().save(folder / "histogram")


def read(folder: Path) -> dict[str, Any]:
    """Return everything that may be read, in a form that can be compared."""
    run = ts.open_run(LocalStore(folder / "run", read_only=True))
    told: dict[str, Any] = {
        "summary": run.summary().to_json(),
        "instances": run.instances,
        "parts": run.parts,
        "damage": run.verify().to_json(),
        "labels": None if run.labels is None else run.labels.tolist(),
        "repr": repr(run).partition(" at ")[0],
    }
    for name, layer in run.items():
        counted = layer.histogram()
        facts = (layer.threshold, layer.neurons, layer.positions, layer.instance_count)
        told[name] = (repr(facts), counted.keys.tobytes(), counted.counts.tobytes())
        if name != "live":
            some = layer.histogram([0, 3, 1499])
            told[f"{name}, some"] = (some.keys.tobytes(), some.counts.tobytes())
    for limit in (None, 1000):
        histogram = ts.StateHistogram.load(folder / "histogram", memory_limit=limit)
        entries = (histogram.keys.tobytes(), histogram.counts.tobytes())
        told[f"histogram, {limit}"] = (*entries, histogram.first_rows.tobytes())
    return told


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the ways to all values within a JSON value."""
    if path:
        yield path
    if isinstance(value, (dict, list)):
        items: Any = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from places(inner, (*path, key))


def changed(content: bytes, draw: random.Random, name: str) -> tuple[bytes, str]:
    """Return another content of a metadata file, and what was done."""
    document = json.loads(content)
    path = draw.choice([*places(document)])
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    done = "removed"
    if draw.random() < 0.2:
        del holder[path[-1]]
    elif draw.random() < 0.3:
        holder[path[-1]] = draw.choice([str, lambda v: [v], lambda v: {"a": v}])(holder[path[-1]])
        done = f"is {holder[path[-1]]!r}"
    else:
        holder[path[-1]] = draw.choice(ABSURD)
        done = f"is {holder[path[-1]]!r}"
    forged = draw.random() < 0.5
    attributes = document.get("attributes")
    if forged and isinstance(attributes, dict) and CHECKSUM in attributes:
        own = name if "neurons" in attributes else ""
        document["attributes"] = with_checksum(own, attributes)
    return json.dumps(document).encode(), f"{path} {done}{', forged' if forged else ''}"


def broken(content: bytes, draw: random.Random) -> tuple[bytes | None, str]:
    """Return what is left of a file, and what was done."""
    place = draw.randrange(len(content))
    flipped = bytes([content[place] ^ 1 << draw.randrange(8)])
    return draw.choice(
        [
            (content[:place], f"cut after {place}"),
            (content[:place] + flipped + content[place + 1 :], f"flipped at {place}"),
            (b"", "emptied"),
            (None, "lost"),
            (b"[" * 100_000, "nested"),
            (b'{"zarr_format": 3, "node_type": "group", "attributes": {"a": ' * 2000, "deep"),
            (b"null", "null"),
        ]
    )


class Tries:
    """Changes metadata, one file after the other, and keeps the score."""

    def __init__(self, folder: Path, expected: dict[str, Any], has_checksums: bool) -> None:
        self.has_checksums = has_checksums
        self.folder = folder
        self.expected = expected
        self.documents = sorted(folder.rglob("zarr.json"))
        self.score = {"tried": 0, "refused": 0, "right": 0, "told otherwise": 0, "wrong": 0}

    def one(self, draw: random.Random) -> None:
        """Change a file, read everything, and put the file back."""
        document = draw.choice(self.documents)
        content = document.read_bytes()
        if draw.random() < 0.15:
            new, done = broken(content, draw)
        else:
            new, done = changed(content, draw, document.parent.name)
        document.unlink() if new is None else document.write_bytes(new)
        try:
            self.score[self._outcome(", forged" in done)] += 1
        except BaseException as error:
            self.score["wrong"] += 1
            where = document.relative_to(self.folder)
            print(f"{where}: {done}: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            document.write_bytes(content)
            self.score["tried"] += 1

    def _outcome(self, forged: bool) -> str:
        began = time.monotonic()
        signal.alarm(SECONDS_EACH)
        try:
            found = read(self.folder)
        except RecursionError:
            raise
        except (ValueError, OSError) as error:
            if type(error).__name__ in ("JSONDecodeError", "UnicodeDecodeError"):
                raise
            return "refused"
        finally:
            signal.alarm(0)
        if found == self.expected:
            return "right"
        if not forged and self.has_checksums:
            names = [name for name in self.expected if found.get(name) != self.expected[name]]
            raise AssertionError(f"other numbers for {names} in {time.monotonic() - began:.1f} s")
        return "told otherwise"


class TooSlowError(BaseException):
    """What is read takes too long: no error that anybody handles."""


def give_up(*_: Any) -> None:
    """End what takes too long."""
    raise TooSlowError(f"it takes more than {SECONDS_EACH} s")


def limit_memory() -> None:
    """Let the process take little more memory than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + EXTRA_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--before-checksums", action="store_true", help="as of earlier versions")
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    signal.signal(signal.SIGALRM, give_up)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        if options.before_checksums:
            as_before_checksums(folder)
        expected = read(folder)
        tries = Tries(folder, expected, has_checksums=not options.before_checksums)
        limit_memory()
        for number in range(options.examples):
            tries.one(random.Random(f"{options.seed} {number}"))
    print(json.dumps(tries.score))
    sys.exit(1 if tries.score["wrong"] else 0)


if __name__ == "__main__":
    main()
