"""Counting distinct states, against every other way to do it from Python.

``python -m benchmarks.counting`` prints a table as Markdown; ``--json FILE`` keeps the figures.

Each figure comes from a process of its own, which holds the rows in memory as the counter likes
them best: the time to bring them there is not counted. It has counted a few rows before. Each count
starts from nothing and ends with the counts in arrays; ours ends with the first row of each state
too, and so do the others with ``--first-rows``, whose row numbers are there beforehand. The
counters' results are compared.

The figures are medians over several counts by one process. The first count has to get its memory
from the system, and on a virtual machine from its host, which depends on what ran before:
`benchmarks.stored` gives it, where counters take turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from typing import Any

import numpy as np

from benchmarks._counters import COUNTERS, JOBS, Result, U8Array
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

ROWS = {3: 20_000_000, 8: 20_000_000, 16: 20_000_000, 64: 5_000_000, 256: 1_000_000}
KINDS = ("low", "high", "structured")


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


def ratio_to_one_thread(
    found: dict[str, dict[str, Any]], alone: dict[str, dict[str, Any]]
) -> float | None:
    """Return how many times as fast as with one thread ours is, if both were measured."""
    if "tensorstate" not in found or "tensorstate" not in alone:
        return None
    ours, with_one = (some["tensorstate"]["ns_per_row"] for some in (found, alone))
    return float(with_one / ours)


def table(results: list[dict[str, Any]], names: list[str]) -> str:
    """Return all results as Markdown: a row for each input, a column for each counter."""
    lines = []
    inputs = by_input(results)
    for (width, kind, threads, rows), found in inputs.items():
        ours = found.get("tensorstate")
        alone = inputs.get((width, kind, 1, rows), {}) if threads > 1 else {}
        compared = [ratio_to_peers(found), ratio_to_one_thread(found, alone)]
        ratios = ["" if ratio is None else f"{ratio:.1f}x" for ratio in compared]
        reads = f"{statistics.median(ours['seconds']) / ours['read_seconds']:.0f}" if ours else ""
        cells = [
            f"{found[name]['ns_per_row']:.1f} ({found[name]['peak_bytes'] / 2**20:.0f})"
            if name in found
            else ""
            for name in names
        ]
        lines.append([width, kind, threads, f"{rows / 1e6:g} M", *cells, *ratios, reads])
    header = ["W", "states", "threads", "rows", *names]
    header += ["best peer / ours", "one thread / ours", "ours / one read"]
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
    parser.add_argument("--repeats", type=int, default=5, help="counts of which the median counts")
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
            f"W={width} {kind}, {rows / 1e6:g} M rows, threads: {threads}": ratio
            for (width, kind, threads, rows), found in by_input(results).items()
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
