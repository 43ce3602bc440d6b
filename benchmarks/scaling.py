"""What a count costs, and what that says of more states and workers than were ever tried.

    python -m benchmarks.scaling [--long] [--workers 10 100 1000] [--states 1e12]

First a model of the cost is fitted to counts of 10^6 to 3 * 10^7 rows (10^9 with ``--long``), each
in a process of its own, from mapped NumPy files, the median of three; and it predicts runs that it
was not fitted to. Then the graph of a count of 10^12 states, as the package makes it for 10 to
1,000 workers, runs on a simulated cluster: Dask's own scheduler, tasks that only take the time that
the model says, and no file system that could be too slow. A table tells what grows faster than the
cluster, and the last one how long Dask's scheduler takes for a task that does nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask

from benchmarks._cost import MAP, MERGE, Costs, Shape, fit, measured
from benchmarks._graphs import Cluster, Planned, modelled, planned, shares
from benchmarks._measure import in_own_process, machine, markdown, versions
from benchmarks._simulated import Modelled, simulate
from benchmarks.out_of_core import make_rows

WIDTH = 16
FEW = 1000
COUNTS = 3
"""How often each run counts; the one whose seconds are the median is taken."""

SHORT = ([1e6, 3e6, 1e7, 3e7], [2e7], [1000, 10_000])
LONG = ([1e6, 1e7, 1e8, 3e8, 1e9], [2e7, 5e8], [1000, 10_000, 100_000])
"""Rows of the runs to which the model is fitted and of those that it predicts; idle tasks."""

MOST_IN_MEMORY = 10**8
FEW_AT_TRILLION = 10**6
WORKER_THREADS, WORKER_MEMORY = 4, 64 << 30
STORAGE = 10e9
NAMES = {
    "read_bytes": "byte read",
    "rows": "row",
    "distinct": "distinct state",
    "spilled_bytes": "byte spilled",
    "moved_bytes": "byte moved to the merge",
    "opened": "spill file opened",
    "map_tasks": "task",
    "merge_tasks": "task",
}


def shapes(rows: int) -> list[Shape]:
    """Return the runs of so many rows of 16 bytes, or as many bytes of other widths."""
    found = [
        Shape(rows, WIDTH, 0, True),
        Shape(rows, WIDTH, rows // 10, True),
        Shape(rows // 4, 4 * WIDTH, 0, True),
        Shape(2 * rows, WIDTH // 2, 0, True),
    ]
    if rows <= MOST_IN_MEMORY:
        found += [Shape(rows, WIDTH, FEW, False), Shape(rows, WIDTH, 0, False)]
    return found


def run(shape: Shape, folder: str | None, threads: int) -> dict[str, Any]:
    """Measure a count in a process of its own, and remove its rows.

    Raises
    ------
    SystemExit
        If there is no room for its files.
    """
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=folder) as below:
        needed = shape.bytes + shape.rows * shape.row_bytes
        free = shutil.disk_usage(below).free
        if needed > free:
            raise SystemExit(
                f"{shape.rows} rows of {shape.width} bytes and their spill files take "
                f"{needed / 1e9:.0f} GB below {below}, and {free / 1e9:.0f} GB are free: "
                "pass --folder, a directory on a larger disk"
            )
        make_rows(Path(below), shape.bytes // WIDTH, ["npy"], shape.distinct or None)
        what = (shape.rows, shape.width, shape.distinct, int(shape.spills), below, threads)
        found = in_own_process("benchmarks.scaling", *what)
    print(f"{shape}: {found['seconds']:.2f} s", file=sys.stderr)
    return found


def fitted(used: list[dict[str, Any]], others: list[dict[str, Any]], costs: Costs) -> str:
    """Return a table of runs: what was measured and what the model says."""
    lines = []
    for facts in [*used, *others]:
        predicted = costs.seconds(facts)
        lines.append(
            [
                f"{facts['rows']:.3g}",
                facts["width"],
                f"{facts['distinct']:.3g}",
                "spilled" if facts["spills"] else "in memory",
                "no" if any(facts is other for other in others) else "yes",
                f"{facts['seconds']:.3f}",
                f"{predicted:.3f}",
                f"{predicted / facts['seconds'] - 1:+.0%}",
            ]
        )
    header = ["rows", "W", "distinct", "merged", "fitted to it", "seconds", "model", "error"]
    return markdown(header, lines)


def coefficients(costs: Costs) -> str:
    """Return a table of what one of each costs."""
    lines = [
        [NAMES[name], *(f"{1e9 * of[name]:.4g}" if name in of else "" for of in costs[:2])]
        for name in dict.fromkeys((*MAP, *MERGE))
        if name not in ("map_tasks", "merge_tasks")
    ]
    task = [1e9 * costs.map["map_tasks"], 1e9 * costs.merge["merge_tasks"]]
    lines.append(["task", *(f"{cost:.4g}" for cost in task)])
    outside = (1e3 * costs.outside["runs"], 1e9 * costs.outside["loaded"])
    said = (
        "\n\nA count takes {:.1f} ms besides, and {:.4g} ns for a state that is loaded at the end."
    )
    return markdown(
        ["thread-nanoseconds for a", "when rows are read", "when merged"], lines
    ) + said.format(*outside)


def facts_of(count: Planned, width: int, distinct: int) -> dict[str, float]:
    """Return what the cost of a planned count depends on."""
    spilled = count.spilled_bytes(distinct)
    return {
        "read_bytes": count.rows * width,
        "rows": count.rows,
        "distinct": distinct,
        "spilled_bytes": spilled,
        "moved_bytes": spilled,
        "opened": count.opened(distinct),
        "map_tasks": count.job.files if count.job else 0,
        "merge_tasks": count.merges,
    }


def simulated(states: int, workers: Sequence[int], costs: Costs, storage: float) -> str:
    """Return a table of the simulated cluster: a row for a number of workers and of states."""
    lines = []
    for distinct in (states, min(FEW_AT_TRILLION, states)):
        for number in workers:
            count = planned(states, Cluster(number, WORKER_THREADS, WORKER_MEMORY))
            tasks = modelled(count, costs, WIDTH, distinct)
            found = simulate(count.graph, count.keys, tasks, number, WORKER_THREADS)
            threads = number * WORKER_THREADS
            busy = sum(found.busy.values())
            moved = count.rows * WIDTH + 2 * count.spilled_bytes(distinct)
            lines.append(
                [
                    f"{distinct:.0e}",
                    number,
                    found.tasks,
                    f"{found.ends['count and spill'] / 60:.1f}",
                    f"{(found.ends['merge'] - found.ends['count and spill']) / 60:.1f}",
                    f"{found.seconds / 60:.1f}",
                    f"{busy / threads / found.seconds:.0%}",
                    f"{found.graph_seconds:.1f}",
                    f"{found.scheduler_seconds:.1f}",
                    f"{found.transferred / 1e6:.1f}",
                    f"{moved / storage / 60:.1f}",
                ]
            )
            print(f"{number} workers: simulated", file=sys.stderr)
    header = ["distinct", "workers", "tasks", "counted, min", "merged, min", "all, min"]
    more = ["threads busy", "graph sent, s", "scheduler, s", "between workers, MB"]
    return markdown([*header, *more, f"storage at {storage / 1e9:g} GB/s, min"], lines)


def spent(states: int, workers: int, costs: Costs) -> str:
    """Return a table of where the time of threads goes."""
    count = planned(states, Cluster(workers, WORKER_THREADS, WORKER_MEMORY))
    columns = []
    for distinct in (states, min(FEW_AT_TRILLION, states)):
        parts = shares(costs, facts_of(count, WIDTH, distinct))
        columns.append((parts, sum(parts.values()) or 1.0))
    lines = []
    for name in columns[0][0]:
        step, _, what = name.partition(": ")
        cells = (
            f"{parts[name] / 3600:.1f} ({parts[name] / total:.0%})" for parts, total in columns
        )
        lines.append([step, NAMES[what], *cells])
    return markdown(["step", "for each", "all distinct, thread-hours", "few distinct"], lines)


def growth(workers: Sequence[int], rows_per_worker: int) -> str:
    """Return a table of what grows with the cluster, each worker having as many rows.

    An exponent of 1 says that something grows as the cluster, 2 that it is quadratic.
    """
    figures = []
    for number in workers:
        rows = number * rows_per_worker
        files = planned(rows, Cluster(number, WORKER_THREADS, WORKER_MEMORY))
        in_memory = planned(MOST_IN_MEMORY, Cluster(number, WORKER_THREADS, WORKER_MEMORY))
        figures.append(
            {
                "spilled: tasks": len(files.graph),
                "spilled: dependencies": files.dependencies,
                "spilled: files": files.job.files if files.job else 0,
                "spilled: files opened": files.opened(rows),
                "spilled: bytes": int(files.spilled_bytes(rows)),
                "in memory: tasks": len(in_memory.graph),
                "in memory: dependencies": in_memory.dependencies,
            }
        )
    lines = []
    for name in figures[0]:
        first, last = figures[0][name], figures[-1][name]
        exponent = math.log(last / first) / math.log(workers[-1] / workers[0])
        lines.append([name, *(f"{figure[name]:.3g}" for figure in figures), f"{exponent:.2f}"])
    return markdown(["", *(f"{number} workers" for number in workers), "exponent"], lines)


def overhead(tasks: Sequence[int], real: int) -> str:
    """Return a table of what Dask takes for the tasks of a count if they do nothing."""
    lines = []
    for wanted in tasks:
        cluster = Cluster(max(wanted // 100, 1), WORKER_THREADS, WORKER_MEMORY)
        count = with_tasks(wanted, cluster)
        idle = {key: Modelled("nothing", 0.0) for key in count.graph}
        found = simulate(count.graph, count.keys, idle, *cluster[:2])
        each = [found.graph_seconds, found.scheduler_seconds]
        cells = [f"{1e6 * seconds / found.tasks:.0f}" for seconds in each]
        on_threads = f"{1e6 * run_nothing(count) / found.tasks:.0f}" if wanted <= real else ""
        lines.append([cluster.workers, found.tasks, found.dependencies, *cells, on_threads])
    header = ["workers", "tasks", "dependencies", "graph sent, µs a task", "scheduler, µs a task"]
    return markdown([*header, "a real local cluster, µs a task"], lines)


def with_tasks(wanted: int, cluster: Cluster) -> Planned:
    """Return a count through files of about so many tasks."""
    limit = 256 << 20
    small = planned(10**9, cluster, limit=limit)
    block = next(iter(small.graph.values()))[2].rows
    return planned(max(wanted - small.merges, 1) * block, cluster, limit=limit)


def run_nothing(count: Planned) -> float:
    """Return the seconds that a real cluster takes for the same graph of tasks that do nothing."""
    from distributed import Client

    graph = {
        key: (nothing, sorted(dask.core.get_dependencies(count.graph, key), key=str))
        for key in count.graph
    }
    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as client:
        begin = time.perf_counter()
        client.get(graph, count.keys)
        return time.perf_counter() - begin


def nothing(*results: Any) -> None:
    """Do nothing."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--long", action="store_true", help="fit to counts of up to 10^9 rows")
    parser.add_argument("--rows", type=float, nargs="+", help="of the runs to fit to, instead")
    parser.add_argument("--check", type=float, nargs="+", help="rows of the runs to predict")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--states", type=float, default=1e12, help="to simulate; 1e12 by default")
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--storage", type=float, default=STORAGE, help="bytes a second of all")
    parser.add_argument("--tasks", type=int, nargs="+", help="how many do nothing, instead")
    parser.add_argument("--real", type=int, default=10_000, help="most tasks on a real cluster")
    parser.add_argument("--folder", help="for rows and spill files; temporary by default")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--cell", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        rows, width, distinct, spills, folder, threads = options.cell
        shape = Shape(int(rows), int(width), int(distinct), bool(int(spills)))
        counts = [measured(shape, Path(folder), int(threads)) for _ in range(COUNTS)]
        print(json.dumps(sorted(counts, key=lambda facts: facts["seconds"])[COUNTS // 2]))
        return

    sizes, others, tasks = LONG if options.long else SHORT
    sizes, others = options.rows or sizes, options.check or others
    used, unused = (
        [run(s, options.folder, options.threads) for rows in some for s in shapes(int(rows))]
        for some in (sizes, others)
    )
    costs = fit(used)
    states = int(options.states)
    print("**Counts, and what the model says of them**\n")
    print(fitted(used, unused, costs))
    print(f"\n{options.threads} threads; a model of thread-seconds, which were summed by task.\n")
    print(coefficients(costs))
    print(f"\n**{states:.0e} states of {WIDTH} bytes on a simulated cluster**\n")
    print(simulated(states, options.workers, costs, options.storage))
    print(
        f"\n{WORKER_THREADS} threads and {WORKER_MEMORY >> 30} GiB a worker. Storage and caches "
        "are as they were above: the last column says how long a shared file system would take.\n"
    )
    print(spent(states, options.workers[-1], costs))
    each = states // options.workers[-1]
    print(f"\n**What grows with the cluster**, {each:.0e} distinct states for each worker, and in ")
    print(f"memory {MOST_IN_MEMORY:.0e} for all, since each worker must be able to hold them:\n")
    print(growth(options.workers, each))
    print("\n**Tasks that do nothing**\n")
    print(overhead(options.tasks or tasks, options.real))
    used_versions = versions(["numpy", "numba", "dask", "distributed", "scipy", "tensorstate"])
    print(f"\n{machine()}; {used_versions}.")
    if options.json:
        found = {"fitted": used, "predicted": unused, **costs._asdict()}
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
