"""Counting distinct states, against every other way to do it from Python.

``python -m benchmarks.counting`` prints a table as Markdown; ``--json FILE`` keeps the figures.

Each figure comes from a process of its own, which holds the rows in memory as the counter likes
them best: the time to bring them there is not counted. Each run starts from nothing and ends
with the counts in arrays; ours ends with the first row of each state too, and so do the others
with ``--first-rows``, whose row numbers are there beforehand. The counters' results are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks._measure import (
    add_ratios_option,
    in_own_process,
    keep_ratios,
    machine,
    markdown,
    measure,
    pin,
    versions,
)

U8Array = npt.NDArray[np.uint8]
Result = tuple[npt.NDArray[np.int64], ...]

ROWS = {3: 20_000_000, 8: 20_000_000, 16: 20_000_000, 64: 5_000_000, 256: 1_000_000}
KINDS = ("low", "high", "structured")
JOBS = ("counts", "counts and first rows")
WITHOUT_AVX512 = {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR AVX512_SKX"}


class Counter(NamedTuple):
    """A way to count.

    Attributes
    ----------
    prepare
        From (rows, W) uint8 and a number of threads to what `count` takes.
    count
        Returns the counts of the distinct rows, in any order; and the first of the rows that
        each of them has, aligned with the counts, if these are the job.
    threads
        How many threads it can use.
    environment
        Variables that its process needs.
    """

    prepare: Callable[[U8Array, int], Any]
    count: Callable[[Any], Any]
    threads: int = 1
    environment: Mapping[str, str] = MappingProxyType({})


def make_rows(kind: str, width: int, rows: int) -> U8Array:
    """Make packed states.

    Parameters
    ----------
    kind : {"low", "high", "structured"}
        low: a pool of rows / 100 random states, the r-th with a probability about 1 / r;
        high: uniformly random; structured: the signs of 8 * width random projections of 6
        normal variables, as the neurons of a layer give them.
    width, rows : int
        Bytes of a state, and how many.

    Returns
    -------
    (rows, width) uint8
    """
    rng = np.random.default_rng(20260101)
    if kind == "high":
        return rng.integers(0, 256, (rows, width), dtype=np.uint8)
    if kind == "low":
        distinct = rows // 100
        pool = rng.integers(0, 256, (distinct, width), dtype=np.uint8)
        rank = np.exp(rng.random(rows) * np.log(distinct + 1)).astype(np.int64) - 1
        return np.ascontiguousarray(pool[rank])
    weights = rng.normal(size=(6, 8 * width)).astype(np.float32)
    bias = rng.normal(size=8 * width).astype(np.float32)
    states = np.empty((rows, width), np.uint8)
    for start in range(0, rows, 50_000):
        some = states[start : start + 50_000]
        latent = rng.normal(size=(len(some), 6)).astype(np.float32)
        some[...] = np.packbits(latent @ weights + bias > 0, axis=1, bitorder="little")
    return states


# Ours


def prepare_tensorstate(rows: Any, threads: int) -> Any:
    import dask

    from tensorstate.counting import count_states

    dask.config.set(scheduler="threads", num_workers=threads)
    # Load the compiled kernels, as the others have theirs loaded.
    count_states(rows[:300_000])
    return rows


def count_tensorstate(rows: U8Array) -> Result:
    from tensorstate.counting import count_states

    histogram = count_states(rows)
    return histogram.counts, histogram.first_rows


# The others


def words(rows: U8Array) -> list[npt.NDArray[np.uint64]]:
    """Split rows into columns of uint64, the last one zero-extended."""
    padded = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), np.uint8)
    padded[:, : rows.shape[1]] = rows
    columns = padded.view(np.uint64)
    return [np.ascontiguousarray(columns[:, c]) for c in range(columns.shape[1])]


def as_binary(rows: U8Array) -> Any:
    import pyarrow as pa

    width = pa.binary(rows.shape[1])
    return pa.Array.from_buffers(width, len(rows), [None, pa.py_buffer(rows)])


def prepare_duckdb(rows: U8Array, threads: int) -> Any:
    import duckdb
    import pyarrow as pa

    if rows.shape[1] <= 16:
        arrays = [pa.array(column) for column in words(rows)]
    else:
        arrays = [as_binary(rows)]
    names = [f"w{column}" for column in range(len(arrays))]
    connection = duckdb.connect(config={"threads": threads})
    connection.register("arrow", pa.table(arrays, names=names))
    connection.execute("CREATE TABLE states AS SELECT * FROM arrow")
    connection.unregister("arrow")
    return connection, ", ".join(names)


def count_duckdb(prepared: Any) -> Result:
    connection, names = prepared
    query = f"SELECT {names}, count(*) AS n FROM states GROUP BY {names}"
    return (as_int64(connection.execute(query).to_arrow_table()["n"]),)


def first_rows_duckdb(prepared: Any) -> Result:
    connection, names = prepared
    query = f"SELECT {names}, count(*) AS n, min(rowid) AS first FROM states GROUP BY {names}"
    found = connection.execute(query).to_arrow_table()
    return as_int64(found["n"]), as_int64(found["first"])


def prepare_polars(rows: U8Array, threads: int) -> Any:
    import polars as pl

    if rows.shape[1] <= 16:
        columns = {f"w{c}": column for c, column in enumerate(words(rows))}
        frame = pl.DataFrame(columns)
    else:
        import pyarrow as pa

        frame = pl.DataFrame({"w0": pl.from_arrow(as_binary(rows).cast(pa.large_binary()))})
    return frame.with_row_index("row")


def count_polars(frame: Any) -> Result:
    import polars as pl

    found = frame.group_by(pl.exclude("row")).agg(n=pl.len())
    return (as_int64(found["n"]),)


def first_rows_polars(frame: Any) -> Result:
    import polars as pl

    found = frame.group_by(pl.exclude("row")).agg(n=pl.len(), first=pl.col("row").min())
    return as_int64(found["n"]), as_int64(found["first"])


def prepare_pyarrow(rows: U8Array, threads: int) -> Any:
    import pyarrow as pa

    pa.set_cpu_count(threads)
    states = pa.array(words(rows)[0]) if rows.shape[1] <= 8 else as_binary(rows)
    return pa.table({"state": states, "row": np.arange(len(rows))})


def count_pyarrow(table: Any) -> Result:
    import pyarrow.compute as pc

    return (as_int64(pc.value_counts(table["state"]).field("counts")),)


def first_rows_pyarrow(table: Any) -> Result:
    found = table.group_by("state").aggregate([("row", "count"), ("row", "min")])
    return as_int64(found["row_count"]), as_int64(found["row_min"])


def prepare_pandas(rows: U8Array, threads: int) -> Any:
    import pandas as pd

    if rows.shape[1] <= 16:
        columns: dict[str, Any] = dict(zip("ab", words(rows), strict=False))
    else:
        columns = {"a": pd.Series([row.tobytes() for row in rows], dtype=object)}
    return pd.DataFrame({**columns, "row": np.arange(len(rows))})


def count_pandas(frame: Any) -> Result:
    *names, _ = frame.columns
    if len(names) == 1:
        return (as_int64(frame["a"].value_counts(sort=False)),)
    return (as_int64(frame.groupby(names, sort=False).size()),)


def first_rows_pandas(frame: Any) -> Result:
    *names, row = frame.columns
    found = frame.groupby(names, sort=False)[row].agg(["size", "min"])
    return as_int64(found["size"]), as_int64(found["min"])


def prepare_unique(rows: U8Array, threads: int) -> Any:
    return words(rows)[0] if rows.shape[1] <= 8 else rows.view(f"V{rows.shape[1]}").ravel()


def count_unique(rows: Any) -> Result:
    return (as_int64(np.unique(rows, return_counts=True)[1]),)


def first_rows_unique(rows: Any) -> Result:
    _, first, counts = np.unique(rows, return_index=True, return_counts=True)
    return as_int64(counts), as_int64(first)


def as_int64(column: Any) -> npt.NDArray[np.int64]:
    return np.asarray(column, dtype=np.int64)


COUNTERS = {
    JOBS[0]: {
        "tensorstate": Counter(prepare_tensorstate, count_tensorstate, 64),
        "duckdb": Counter(prepare_duckdb, count_duckdb, 64),
        "polars": Counter(prepare_polars, count_polars, 64),
        "pyarrow": Counter(prepare_pyarrow, count_pyarrow),
        "pandas": Counter(prepare_pandas, count_pandas),
        "numpy": Counter(prepare_unique, count_unique),
        "numpy without AVX-512": Counter(prepare_unique, count_unique, 1, WITHOUT_AVX512),
    },
    JOBS[1]: {
        "tensorstate": Counter(prepare_tensorstate, count_tensorstate, 64),
        "duckdb": Counter(prepare_duckdb, first_rows_duckdb, 64),
        "polars": Counter(prepare_polars, first_rows_polars, 64),
        "pyarrow": Counter(prepare_pyarrow, first_rows_pyarrow, 64),
        "pandas": Counter(prepare_pandas, first_rows_pandas),
        "numpy": Counter(prepare_unique, first_rows_unique),
        "numpy without AVX-512": Counter(prepare_unique, first_rows_unique, 1, WITHOUT_AVX512),
    },
}
"""By job: what a run ends with."""


def fingerprint(job: str, result: Result) -> str:
    """Return a text that is the same for equal results, in whatever order."""
    counts, *first_rows = result
    if job == JOBS[0]:
        parts = np.unique(counts, return_counts=True)
    else:
        order = np.argsort(first_rows[0])
        parts = (first_rows[0][order], counts[order])
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


def cell(
    job: str, name: str, kind: str, width: int, rows: int, threads: int, repeats: int
) -> dict[str, Any]:
    """Measure one counter on one input, in this process."""
    pin(threads)
    counter = COUNTERS[job][name]
    states = make_rows(kind, width, rows)
    read = min(measure(lambda: int(np.max(states.view(np.uint8))), 3)[0])
    prepared = counter.prepare(states, threads)
    seconds, peak, result = measure(lambda: counter.count(prepared), repeats)
    return {
        "job": job,
        "counter": name,
        "kind": kind,
        "width": width,
        "rows": rows,
        "threads": threads,
        "seconds": seconds,
        "ns_per_row": statistics.median(seconds) / rows * 1e9,
        "peak_bytes": peak,
        "read_seconds": read,
        "distinct": len(result[0]),
        "fingerprint": fingerprint(job, result),
    }


def cell_in_process(job: str, name: str, *what: object) -> dict[str, Any]:
    """Measure one counter on one input, in a process of its own."""
    environment = {"POLARS_MAX_THREADS": str(what[3]), **COUNTERS[job][name].environment}
    try:
        return in_own_process("benchmarks.counting", job, name, *what, environment=environment)
    except RuntimeError as error:
        return {"counter": name, "error": str(error)}


def compare(kind: str, width: int, rows: int, threads: int, options: argparse.Namespace) -> Any:
    """Measure all counters on one input."""
    found = []
    for name in options.counters:
        if COUNTERS[options.job][name].threads >= threads:
            what = (kind, width, rows, threads, options.repeats)
            found.append(cell_in_process(options.job, name, *what))
            print(f"{name} {kind} W={width} threads={threads}: done", file=sys.stderr)
    answers = {result["fingerprint"] for result in found if "fingerprint" in result}
    if len(answers) > 1:
        raise SystemExit(f"the counters do not agree on {kind} rows of {width} bytes: {found}")
    return found


def by_input(results: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, dict[str, Any]]]:
    """Return the results of each input, by counter."""
    inputs: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for result in results:
        if "error" not in result:
            key = (result["width"], result["kind"], result["threads"], result["rows"])
            inputs.setdefault(key, {})[result["counter"]] = result
    return inputs


def ratio_to_peers(found: dict[str, dict[str, Any]]) -> float | None:
    """Return how many times as fast as the best peer ours is, if both were measured."""
    ours = found.get("tensorstate")
    peers = [result["ns_per_row"] for name, result in found.items() if name != "tensorstate"]
    return min(peers) / ours["ns_per_row"] if ours and peers else None


def table(results: list[dict[str, Any]], names: list[str]) -> str:
    """Return all results as Markdown: a row for each input, a column for each counter."""
    lines = []
    for (width, kind, threads, rows), found in by_input(results).items():
        ours, fastest = found.get("tensorstate"), ratio_to_peers(found)
        ratio = "" if fastest is None else f"{fastest:.1f}x"
        reads = f"{statistics.median(ours['seconds']) / ours['read_seconds']:.0f}" if ours else ""
        cells = [
            f"{found[name]['ns_per_row']:.1f} ({found[name]['peak_bytes'] / 2**20:.0f})"
            if name in found
            else ""
            for name in names
        ]
        lines.append([width, kind, threads, f"{rows / 1e6:g} M", *cells, ratio, reads])
    header = ["W", "states", "threads", "rows", *names, "best peer / ours", "ours / one read"]
    return markdown(header, lines)


def versions_of(counters: list[str]) -> str:
    """Return the versions of what was compared."""
    return versions(["numpy", "numba", "dask", *(name.split()[0] for name in counters)])


def is_amd() -> bool:
    with open("/proc/cpuinfo") as file:
        return "AuthenticAMD" in file.read()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", type=int, help="instead of the usual number")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--counters", nargs="+", choices=COUNTERS[JOBS[0]])
    parser.add_argument(
        "--first-rows",
        dest="job",
        action="store_const",
        const=JOBS[1],
        default=JOBS[0],
        help="let every counter tell the first row of each state, as ours always does",
    )
    parser.add_argument("--json", help="file for the figures")
    add_ratios_option(parser)
    parser.add_argument("--cell", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        job, name, kind, *numbers = options.cell
        print(json.dumps(cell(job, name, kind, *map(int, numbers))))
        return
    if not options.counters:
        names = COUNTERS[options.job]
        options.counters = [name for name in names if is_amd() or "AVX" not in name]
    results = [
        result
        for width in options.widths
        for kind in options.kinds
        for threads in options.threads
        for result in compare(kind, width, options.rows or ROWS[width], threads, options)
    ]
    ours = "" if options.job == JOBS[1] else "; tensorstate: and first rows"
    print(
        f"Nanoseconds a row from rows to {options.job}{ours}, median of {options.repeats} "
        "(peak memory beyond the input, MiB).\n"
    )
    print(table(results, options.counters))
    print(f"\n{machine()}; {versions_of(options.counters)}.")
    for result in results:
        if "error" in result:
            print(f"\n{result['counter']} failed: {result['error']}")
    keep_ratios(
        options.ratios,
        {
            f"W={width} {kind}, threads: {threads}": ratio
            for (width, kind, threads, _), found in by_input(results).items()
            if (ratio := ratio_to_peers(found)) is not None
        },
    )
    if options.json:
        facts = {
            "job": options.job,
            "machine": machine(),
            "versions": versions_of(options.counters),
        }
        with open(options.json, "w") as file:
            json.dump({**facts, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
