"""Runs the benchmarks, one after the other, and writes what they print.

    python -m benchmarks [NAME ...] [--long]
    python -m benchmarks --compare benchmarks/RESULTS.json

Without names all are run and ``benchmarks/RESULTS.md`` is written, and beside it, as JSON, how many
times as fast as its peers ours was. With names, the document is printed. A benchmark that fails
does not keep the others from being run; the exit code is 1 then. With ``--compare`` nothing is
written: the exit code is 1 if one of the ratios fell by more than the tolerance.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._results import ROOT, Outcome, commit, compare, document, record


class Benchmark(NamedTuple):
    """A benchmark.

    Attributes
    ----------
    module : str
        What is run.
    minutes : float
        About how long the short form takes on two cores that have nothing else to do.
    short, long : str
        Its arguments in both forms.
    has_ratios : bool
        Whether it compares with peers.
    """

    module: str
    minutes: float
    short: str
    long: str
    has_ratios: bool = True


DIGITS = "--images 60000"
BENCHMARKS = {
    "counting": Benchmark(
        "benchmarks.counting",
        5,
        "--widths 8 16 64 --kinds low high --counters tensorstate duckdb polars numpy --repeats 5",
        "--repeats 9",
    ),
    "stored": Benchmark("benchmarks.stored", 3, "--repeats 3", "--repeats 5"),
    "out-of-core": Benchmark(
        "benchmarks.out_of_core",
        5,
        '--rows 200e6 --limit "1 GiB" --repeats 3',
        '--rows 500e6 --limit "1 GiB" --repeats 3',
    ),
    "capture-keras": Benchmark(
        "benchmarks.capture", 2, f"{DIGITS} --repeats 3", f"{DIGITS} --repeats 9"
    ),
    "capture-torch": Benchmark(
        "benchmarks.capture",
        2,
        f"--framework torch {DIGITS} --repeats 3",
        f"--framework torch {DIGITS} --repeats 9",
    ),
    "processes": Benchmark("benchmarks.processes", 1.5, "", "--repeats 5", has_ratios=False),
    "packing": Benchmark("benchmarks.packing", 1, "--repeats 5", ""),
    "firing": Benchmark("benchmarks.firing", 1, "", "--rows 2000000"),
    "estimators": Benchmark(
        "benchmarks.estimators",
        1,
        "--tables bias --samples 40 --rows 100 1000 10000",
        "--tables bias",
        has_ratios=False,
    ),
    "intervals": Benchmark(
        "benchmarks.estimators",
        1,
        "--tables intervals --interval-samples 40 --instances 300",
        "--tables intervals",
        has_ratios=False,
    ),
    "kills": Benchmark("benchmarks.kills", 1, "--kills 5", "--kills 100", has_ratios=False),
    "faults": Benchmark("benchmarks.faults", 2, "--tries 2", "", has_ratios=False),
    "scaling": Benchmark("benchmarks.scaling", 4, "", "--long", has_ratios=False),
}
"""By name, in the order in which they are run."""


def available() -> dict[str, Benchmark]:
    """Return the benchmarks whose module is there."""
    return {
        name: benchmark
        for name, benchmark in BENCHMARKS.items()
        if importlib.util.find_spec(benchmark.module)
    }


def run(name: str, benchmark: Benchmark, is_long: bool) -> Outcome:
    """Run a benchmark in a process of its own, to its end or its failure."""
    what = f"-m {benchmark.module} {benchmark.long if is_long else benchmark.short}".rstrip()
    with tempfile.TemporaryDirectory(prefix="ratios-") as folder:
        ratios = Path(folder, "ratios.json")
        command = [sys.executable, *shlex.split(what)]
        command += ["--ratios", str(ratios)] if benchmark.has_ratios else []
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - begin
        found: dict[str, float] = json.loads(ratios.read_text()) if ratios.exists() else {}
    return Outcome(name, f"python {what}", done.stdout, seconds, done.returncode, found)


def run_all(
    names: Sequence[str], benchmarks: Mapping[str, Benchmark], is_long: bool
) -> list[Outcome]:
    """Run benchmarks one after the other, whatever becomes of them."""
    outcomes = []
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name}", file=sys.stderr, flush=True)
        outcomes.append(run(name, benchmarks[name], is_long))
    return outcomes


def fallen(outcomes: Sequence[Outcome], before: Mapping[str, Any], tolerance: float) -> list[str]:
    """Compare ratios with those of a run before, and print which fell; return these."""
    now = {outcome.name: outcome.ratios for outcome in outcomes if outcome.ratios}
    found = compare(before["ratios"], now, tolerance)
    for sentence in found:
        print(sentence)
    if not found:
        count = sum(len(before["ratios"][name]) for name in now if name in before["ratios"])
        print(f"None of {count} ratios fell by more than {tolerance:.0%} since {before['commit']}.")
    return found


def parse(arguments: Sequence[str] | None, benchmarks: Mapping[str, Benchmark]) -> Any:
    """Return the options."""
    listed = ", ".join(f"{name} ({b.minutes:g})" for name, b in benchmarks.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Runs the benchmarks, one after the other, and writes what they print.",
        epilog=f"Minutes of the short form on two idle cores: {listed}.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all by default")
    parser.add_argument("--long", action="store_true", help="more rows, samples and repeats")
    parser.add_argument("--output", type=Path, help="instead of benchmarks/RESULTS.md")
    parser.add_argument("--compare", type=Path, metavar="JSON", help="ratios of a run before")
    parser.add_argument("--tolerance", type=float, default=0.25, help="lost part; 0.25 by default")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in benchmarks]
    if unknown:
        parser.error(
            f"there is no benchmark {', '.join(unknown)}: there are {', '.join(benchmarks)}"
        )
    if not 0 <= options.tolerance < 1:
        parser.error(f"the tolerance is {options.tolerance:g}: give a part, from 0 to below 1")
    return options


def main(
    arguments: Sequence[str] | None = None, benchmarks: Mapping[str, Benchmark] | None = None
) -> int:
    """Run the command; return its exit code."""
    benchmarks = available() if benchmarks is None else benchmarks
    options = parse(arguments, benchmarks)
    form, made_of = "long" if options.long else "short", commit()
    before = json.loads(options.compare.read_text()) if options.compare else None
    if before and before["form"] != form:
        raise SystemExit(f"{options.compare} is of the {before['form']} form, and this is not")
    names = options.names or [
        name for name, b in benchmarks.items() if before is None or name in before["ratios"]
    ]
    outcomes = run_all(names, benchmarks, options.long)
    facts = record(outcomes, form, made_of)
    failed = [outcome.name for outcome in outcomes if outcome.exit_code]
    output = options.output
    if output is None and not options.names and before is None:
        output = ROOT / "benchmarks" / "RESULTS.md"
    if output is not None:
        output.write_text(document(outcomes, facts))
        output.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    elif before is None:
        print(document(outcomes, facts))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    is_worse = before is not None and bool(fallen(outcomes, before, options.tolerance))
    return 1 if failed or is_worse else 0


if __name__ == "__main__":
    sys.exit(main())
