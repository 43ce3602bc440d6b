"""What is survived: killed processes, full disks, damaged files, dead workers; one table.

    python -m benchmarks.faults [--seed 0] [--tries N] [--case NAME ...] [--only K] [--list]

Each case makes one kind of fault again and again, at places and moments that are drawn from the
seed, the case and the number of the try. A try is *survived* if everything comes out as if there
had been no fault, or if the fault is refused with a clear error and whatever was committed is there
(*told*). It is *lost* if something that was committed is gone, or the store is of no use any more,
and *silently wrong* if other numbers come out without an error. What was lost or wrong is printed
with the options that repeat it, and the exit code is 1. Ctrl-C prints the table of what was tried.
"""

from __future__ import annotations

import argparse
import sys
import time

import tensorstate as ts
from benchmarks._faults import cluster, damage, disk, kill, others, store
from benchmarks._faults.case import Case, Found, run_case
from benchmarks._measure import machine, markdown

__all__ = ["CASES", "main"]


CASES: dict[str, Case] = {
    case.name: case for room in (kill, disk, store, damage, others, cluster) for case in room.CASES
}

HEADER = ["case", "fault", "tried", "survived", "of these told", "lost", "silently wrong", "s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tries", type=int, help="of each case; its own number if left out")
    parser.add_argument("--case", nargs="+", choices=sorted(CASES), metavar="NAME")
    parser.add_argument("--only", type=int, metavar="K", help="only the try of this number")
    parser.add_argument("--list", action="store_true", help="list the cases")
    parser.add_argument("--verbose", action="store_true", help="tell of each try")
    options = parser.parse_args()
    if options.list:
        print(markdown(["case", "fault", "tries"], [[c.name, c.what, c.tries] for c in all_of()]))
        return

    begin, rows, errors, is_whole = time.perf_counter(), [], [], True
    try:
        for case in all_of(options.case):
            found = _run(case, options)
            rows.append([case.name, case.what, *found.cells(), f"{found.seconds:.0f}"])
            errors += found.errors
            errors += [f"{case.name} was not tried: {found.not_here}"] if found.not_here else []
            is_whole = is_whole and found.is_whole
    except KeyboardInterrupt:
        errors.append("stopped: the cases that follow were not tried")
        is_whole = False
    print(markdown(HEADER, rows))
    print(
        f"\nseed {options.seed}, {time.perf_counter() - begin:.0f} s; {machine()}, "
        f"tensorstate {ts.__version__}"
    )
    print(*errors, sep="\n", end="\n" if errors else "")
    sys.exit(0 if is_whole else 1)


def all_of(names: list[str] | None = None) -> list[Case]:
    """Return the cases of these names, or all."""
    return [case for name, case in CASES.items() if names is None or name in names]


def _run(case: Case, options: argparse.Namespace) -> Found:
    tries = case.tries if options.tries is None else options.tries
    numbers = range(tries) if options.only is None else range(options.only, options.only + 1)

    def tell(text: str) -> None:
        if options.verbose:
            print(text, file=sys.stderr, flush=True)

    found = run_case(case, options.seed, numbers, tell)
    print(f"{case.name}: {found.outcomes}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
