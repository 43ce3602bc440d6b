"""Counting a layer of a stored run, against DuckDB counting the same rows from Parquet.

``python -m benchmarks.stored`` prints a table as Markdown; ``--json FILE`` keeps the figures.

The run is written by the package with its default codec and chunks, the Parquet file without
compression, its states as columns of uint64 (W <= 16) or one of fixed-size binary. Both are in
the page cache. Both are counted in processes of their own, which take turns, are limited to the
same number of processor cores and have counted a few rows before. Each counts five times, from
opening the file or run; both end with the states and their counts in memory, and ours with the
first rows too. Nothing is taken from the counts that a run caches. The results are compared.

The figures are medians over the processes: of the median of the five, and of the first, for which
the process has to get its memory from the system.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._counters import (
    JOBS,
    as_binary,
    as_int64,
    count_tensorstate,
    prepare_tensorstate,
    words,
)
from benchmarks._measure import (
    add_ratios_option,
    in_own_process,
    keep_ratios,
    machine,
    markdown,
    measure,
    pin,
    take_turns,
    versions,
)
from benchmarks.counting import KINDS, ROWS, fingerprint, make_rows

Counts = npt.NDArray[np.int64]

WARM_ROWS = 300_000
COUNTS = 5
GROUP_ROWS = 122_880
"""Rows of a Parquet row group, as DuckDB writes them: threads share them well."""


def run_writer(folder: Path, width: int) -> Any:
    """Return what writes states of `width` bytes, of the layer that `raw_states` reads."""
    from tensorstate.storage import LayerInfo, RunWriter

    writer = RunWriter(folder / "run.zarr")
    writer.add_layer("layer", LayerInfo(neurons=8 * width, positions=1))
    return writer


def write_run(folder: Path, rows: npt.NDArray[np.uint8]) -> None:
    writer = run_writer(folder, rows.shape[1])
    writer.put("layer", rows)
    writer.close()


def write_parquet(folder: Path, rows: npt.NDArray[np.uint8]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = words(rows) if rows.shape[1] <= 16 else [as_binary(rows)]
    table = pa.table({f"w{number}": column for number, column in enumerate(columns)})
    pq.write_table(
        table,
        folder / "rows.parquet",
        compression="NONE",
        use_dictionary=False,
        row_group_size=GROUP_ROWS,
    )


def raw_states(folder: Path) -> Any:
    from tensorstate.storage import open_run

    return open_run(folder / "run.zarr")["layer"].raw_states


def from_run(folder: Path, threads: int) -> Callable[[], Counts]:
    prepare_tensorstate(raw_states(folder), threads)
    return lambda: count_tensorstate(raw_states(folder))[0]


def from_parquet(folder: Path, threads: int) -> Callable[[], Counts]:
    import duckdb

    connection = duckdb.connect(config={"threads": threads})
    file = f"read_parquet('{folder / 'rows.parquet'}')"
    columns = connection.execute(f"DESCRIBE SELECT * FROM {file}").fetchall()
    names = ", ".join(column[0] for column in columns)

    def count(states: str) -> Counts:
        query = f"SELECT {names}, count(*) AS n FROM {states} GROUP BY {names}"
        return as_int64(connection.execute(query).to_arrow_table()["n"])

    count(f"(SELECT * FROM {file} LIMIT {WARM_ROWS})")
    return lambda: count(file)


COUNTERS = {"tensorstate": from_run, "duckdb": from_parquet}
FILES = {"tensorstate": "run.zarr", "duckdb": "rows.parquet"}


def cell(name: str, folder: str, threads: int) -> dict[str, Any]:
    """Measure one counter, in this process."""
    pin(threads)
    count = COUNTERS[name](Path(folder), threads)
    seconds, peak, counts = measure(count, COUNTS)
    return {
        "counter": name,
        "seconds": statistics.median(seconds),
        "first_seconds": seconds[0],
        "peak_bytes": peak,
        "distinct": len(counts),
        "fingerprint": fingerprint(JOBS[0], (counts,)),
    }


def bytes_of(path: Path) -> int:
    """Return the size of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def compare(kind: str, width: int, rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure both on one input."""
    with tempfile.TemporaryDirectory(prefix="stored-", dir=options.folder) as below:
        states = make_rows(kind, width, rows)
        write_run(Path(below), states)
        write_parquet(Path(below), states)
        del states
        found = take_turns(
            COUNTERS,
            options.repeats,
            lambda name: in_own_process("benchmarks.stored", name, below, options.threads),
        )
        sizes = {name: bytes_of(Path(below, file)) for name, file in FILES.items()}
    answers = {cell["fingerprint"] for cells in found.values() for cell in cells}
    if len(answers) > 1:
        raise SystemExit(f"the counters do not agree on {kind} rows of {width} bytes: {found}")
    facts = {"kind": kind, "width": width, "rows": rows, "threads": options.threads}
    return {**facts, "stored_bytes": sizes, "cells": found}


def medians(result: dict[str, Any], which: str) -> dict[str, float]:
    """Return the median of one of the figures of each counter."""
    return {
        name: statistics.median(cell[which] for cell in cells)
        for name, cells in result["cells"].items()
    }


def ratios(results: list[dict[str, Any]]) -> dict[str, float]:
    """Return how many times as fast as DuckDB ours is, by input."""
    found = {}
    for result in results:
        for which, name in (("seconds", ""), ("first_seconds", ", first count")):
            of = medians(result, which)
            label = f"W={result['width']} {result['kind']}, {result['rows'] / 1e6:g} M rows{name}"
            found[label] = of["duckdb"] / of["tensorstate"]
    return found


def table(results: list[dict[str, Any]]) -> str:
    """Return all results as Markdown: a row for each input."""
    lines = []
    for result in results:
        times, first_times = (medians(result, which) for which in ("seconds", "first_seconds"))
        cells = []
        for name, seconds in times.items():
            peak = max(cell["peak_bytes"] for cell in result["cells"][name])
            cells.append(f"{seconds / result['rows'] * 1e9:.1f} ({peak / 2**20:.0f})")
        stored = [f"{size / 2**20:.0f}" for size in result["stored_bytes"].values()]
        ratios = [f"{of['duckdb'] / of['tensorstate']:.1f}x" for of in (times, first_times)]
        what = [result["width"], result["kind"], f"{result['rows'] / 1e6:g} M"]
        lines.append([*what, *stored, *cells, *ratios])
    header = ["W", "states", "rows", "run, MiB", "Parquet, MiB", "tensorstate", "DuckDB"]
    return markdown([*header, "ratio", "ratio, first count"], lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 64], choices=ROWS)
    parser.add_argument("--kinds", nargs="+", default=["low", "high"], choices=KINDS)
    parser.add_argument("--rows", type=float, help="instead of the usual number")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="the median counts")
    parser.add_argument("--folder", help="for the files; temporary by default")
    parser.add_argument("--json", help="file for the figures")
    add_ratios_option(parser)
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        name, folder, threads = options.cell
        print(json.dumps(cell(name, folder, int(threads))))
        return
    results = [
        compare(kind, width, int(options.rows or ROWS[width]), options)
        for width in options.widths
        for kind in options.kinds
    ]
    print(
        f"From a stored run or Parquet file to counts, tensorstate also to first rows: nanoseconds "
        f"a row with {options.threads} threads, the median of {options.repeats} (peak memory, MiB)."
        "\n"
    )
    print(table(results))
    compared = versions(["numpy", "numba", "dask", "zarr", "numcodecs", "duckdb", "pyarrow"])
    print(f"\n{machine()}; {compared}.")
    keep_ratios(options.ratios, ratios(results))
    if options.json:
        facts = {"machine": machine(), "versions": compared}
        Path(options.json).write_text(json.dumps({**facts, "results": results}, indent=1))


if __name__ == "__main__":
    main()
