"""Counting more states than fit in memory, against DuckDB at the same memory limit.

``python -m benchmarks.out_of_core`` prints a table as Markdown; ``--json FILE`` keeps the figures.

The states are 16 bytes wide, random, and all distinct. Both read the same rows from disk, with
the page cache warm: we from a run that the package wrote, from an uncompressed Zarr array and from
a NumPy file that is mapped, DuckDB from uncompressed Parquet. Each figure is the median of
processes of their own, which take turns and are limited to the same number of processor cores. Peak
memory is the highest of any, of the whole process beyond what it held before it began.

They do not end with the same. Ours ends with a histogram: keys, counts and first rows of all
states, in files if they are more than a quarter of the limit; its spectrum is then made, and the
files are removed, which is timed too. DuckDB's query has no first rows, and ends with two
numbers, how many states there are and the largest count: its groups are not kept.
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
from dask.utils import parse_bytes

from benchmarks._counters import prepare_tensorstate
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
from benchmarks.stored import raw_states, run_writer

WIDTH = 16
BATCH = 1 << 20
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""An odd number whose multiples, modulo 2**64, are spread evenly."""


def make_rows(folder: Path, rows: int, sources: list[str], distinct: int | None = None) -> None:
    """Write the same random rows in every format that is needed.

    All are distinct, as good as certainly; or they are drawn from so many equally frequent states.
    """
    import zarr

    run = stored = mapped = parquet = None
    if "run" in sources:
        run = run_writer(folder, WIDTH)
    if "zarr" in sources:
        stored = zarr.create_array(
            folder / "rows.zarr",
            shape=(rows, WIDTH),
            chunks=(1 << 18, WIDTH),
            dtype="uint8",
            compressors=None,
        )
    if "npy" in sources:
        mapped = np.lib.format.open_memmap(
            folder / "rows.npy", mode="w+", dtype=np.uint8, shape=(rows, WIDTH)
        )
    if "duckdb" in sources:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([("low", pa.uint64()), ("high", pa.uint64())])
        parquet = pq.ParquetWriter(
            folder / "rows.parquet", schema, compression="NONE", use_dictionary=False
        )
    rng = np.random.default_rng(20260101)
    for start in range(0, rows, BATCH):
        words = rng.integers(0, distinct or 2**64, (min(BATCH, rows - start), 2), dtype=np.uint64)
        if distinct:
            words[:, 1] = words[:, 0] * SPREAD
        part = slice(start, start + len(words))
        if run is not None:
            run.put("layer", words.view(np.uint8))
        if stored is not None:
            stored[part] = words.view(np.uint8)
        if mapped is not None:
            mapped[part] = words.view(np.uint8)
        if parquet is not None:
            parquet.write_table(pa.table([words[:, 0], words[:, 1]], schema=schema))
    if run is not None:
        run.close()
    if parquet is not None:
        parquet.close()


def count_ours(states: Any, limit: int, folder: Path) -> tuple[int, int]:
    from tensorstate.counting import count_states

    histogram = count_states(states, memory_limit=limit, spill=folder)
    return histogram.distinct, int(histogram.spectrum()[0][-1])


def from_run(folder: Path, threads: int, limit: int) -> Callable[[], tuple[int, int]]:
    states = raw_states(folder)
    prepare_tensorstate(states, threads)
    return lambda: count_ours(states, limit, folder)


def from_zarr(folder: Path, threads: int, limit: int) -> Callable[[], tuple[int, int]]:
    import zarr

    states = zarr.open_array(folder / "rows.zarr", mode="r")
    prepare_tensorstate(states, threads)
    return lambda: count_ours(states, limit, folder)


def from_npy(folder: Path, threads: int, limit: int) -> Callable[[], tuple[int, int]]:
    states = np.load(folder / "rows.npy", mmap_mode="r")
    prepare_tensorstate(states, threads)
    return lambda: count_ours(states, limit, folder)


def from_duckdb(folder: Path, threads: int, limit: int) -> Callable[[], tuple[int, int]]:
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    connection.execute(f"SET memory_limit = '{limit // 1000} KB'")
    connection.execute(f"SET temp_directory = '{folder / 'duckdb'}'")
    connection.execute("SET preserve_insertion_order = false")
    # Without the outer aggregate DuckDB would hold the result twice.
    query = f"""
        SELECT count(*), max(times) FROM (
            SELECT low, high, count(*) AS times
            FROM read_parquet('{folder / "rows.parquet"}') GROUP BY low, high
        )
    """
    return lambda: connection.execute(query).fetchall()[0]


COUNTERS = {"run": from_run, "zarr": from_zarr, "npy": from_npy, "duckdb": from_duckdb}
NAMES = {
    "run": "tensorstate, stored run",
    "zarr": "tensorstate, Zarr",
    "npy": "tensorstate, mapped NumPy file",
    "duckdb": "DuckDB, Parquet",
}


def cell(name: str, folder: str, threads: int, limit: int) -> dict[str, Any]:
    """Measure one counter, in this process."""
    pin(threads)
    count = COUNTERS[name](Path(folder), threads, limit)
    (seconds,), peak, result = measure(count, 1)
    return {"counter": name, "seconds": seconds, "peak_bytes": peak, "result": list(result)}


def medians(results: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Return the seconds of each counter."""
    return {
        name: statistics.median(cell["seconds"] for cell in cells)
        for name, cells in results.items()
    }


def ratios(results: dict[str, list[dict[str, Any]]], rows: int) -> dict[str, float]:
    """Return how many times as fast as DuckDB each of ours is, if DuckDB was measured."""
    of = f"{rows / 1e6:g} M rows"
    times = medians(results)
    peer = times.pop("duckdb", None)
    return {} if peer is None else {f"{NAMES[n]}, {of}": peer / s for n, s in times.items()}


def table(results: dict[str, list[dict[str, Any]]], rows: int, limit: int) -> str:
    """Return all results as Markdown: a row for each counter."""
    times = medians(results)
    lines = []
    for name, seconds in times.items():
        ratio = f"{times['duckdb'] / seconds:.1f}x" if "duckdb" in times else ""
        peak = max(cell["peak_bytes"] for cell in results[name])
        lines.append(
            [
                NAMES[name],
                f"{seconds:.1f}",
                f"{seconds / rows * 1e9:.0f}",
                ratio,
                f"{peak / 2**20:.0f}",
                f"{peak / limit:.0%}",
            ]
        )
    header = ["counter", "seconds", "ns a row", "DuckDB / this", "peak MiB", "of the limit"]
    return markdown(header, lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=20e6, help="20e6 by default")
    parser.add_argument("--limit", default="256 MiB", help="of memory; 256 MiB by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="the median counts")
    parser.add_argument("--counters", nargs="+", default=list(COUNTERS), choices=COUNTERS)
    parser.add_argument("--folder", help="for rows and spill files; temporary by default")
    parser.add_argument("--json", help="file for the figures")
    add_ratios_option(parser)
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        name, folder, threads, limit = options.cell
        print(json.dumps(cell(name, folder, int(threads), int(limit))))
        return
    rows, limit = int(options.rows), parse_bytes(options.limit)
    with tempfile.TemporaryDirectory(prefix="out-of-core-", dir=options.folder) as below:
        make_rows(Path(below), rows, options.counters)
        what = (below, options.threads, limit)
        results = take_turns(
            options.counters,
            options.repeats,
            lambda name: in_own_process("benchmarks.out_of_core", name, *what),
        )
    answers = {tuple(cell["result"]) for cells in results.values() for cell in cells}
    if answers != {(rows, 1)}:
        raise SystemExit(f"the counters do not agree on {rows} distinct states: {answers}")
    print(
        f"{rows / 1e6:g} million distinct states of {WIDTH} bytes under {options.limit}, "
        f"{options.threads} threads; the median of {options.repeats}.\n"
    )
    print(table(results, rows, limit))
    compared = versions(["numpy", "numba", "dask", "zarr", *(results.keys() & {"duckdb"})])
    print(f"\n{machine()}; {compared}.")
    keep_ratios(options.ratios, ratios(results, rows))
    if options.json:
        facts = {"machine": machine(), "versions": compared, "rows": rows, "limit": limit}
        Path(options.json).write_text(json.dumps({**facts, "results": results}, indent=1))


if __name__ == "__main__":
    main()
