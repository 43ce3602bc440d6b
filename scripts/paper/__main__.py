"""The command: ``python -m scripts.paper run | report | results``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.paper.data import DATA
from scripts.paper.experiment import Settings
from scripts.paper.grid import ENVIRONMENT, check_settings, grid, rows_of, run_grid
from scripts.paper.networks import ARCHITECTURES, Architecture

TABLE = "table.parquet"
PACKAGES = ("tensorstate", "tensorflow", "keras", "numpy", "dask")


def parser() -> argparse.ArgumentParser:
    """Return what reads the arguments."""
    made = argparse.ArgumentParser(
        prog="python -m scripts.paper",
        description="The experiments of Schaub and Hotaling (2023), at a size that fits. Needs "
        "tensorstate[bench,demo,report,tensorflow].",
    )
    commands = made.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train what is not trained yet, and write the table")
    defaults = Settings()
    run.add_argument("--out", type=Path, required=True, help="folder of the run")
    run.add_argument(
        "--data", choices=DATA, default=defaults.data, help="5,000 digits, or the whole of MNIST"
    )
    run.add_argument("--digits", type=_positive, help="take only so many of them")
    run.add_argument("--epochs", type=_positive, default=defaults.epochs, help="at most")
    run.add_argument("--seeds", type=_positive, default=3)
    run.add_argument(
        "--architectures", nargs="+", choices=list(ARCHITECTURES), default=list(ARCHITECTURES)
    )
    run.add_argument(
        "--widths", nargs="+", type=_positive, help="of every layer, in place of the grid's own"
    )
    run.add_argument(
        "--random-labels", nargs="+", type=_percent, default=[0, 25, 50, 75], help="in percent"
    )
    run.add_argument("--workers", type=_positive, default=2, help="processes of one thread each")
    run.add_argument("--scheduler", help="address or file of a Dask scheduler that runs already")
    report = commands.add_parser("report", help="write the page of a table")
    report.add_argument("--out", type=Path, required=True, help="folder of the run")
    report.add_argument("--table", type=Path, help="of another folder; by default that of the run")
    results = commands.add_parser("results", help="print what was found, as Markdown")
    results.add_argument("--table", type=Path, required=True)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parser().parse_args(arguments)
    try:
        {"run": run, "report": report, "results": results}[options.command](options)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped: the same command goes on.", file=sys.stderr)
        return 130
    return 0


def run(options: argparse.Namespace) -> None:
    """Train what is missing, on a local cluster or a scheduler, and write the table."""
    from benchmarks._measure import machine, versions
    from scripts.paper.table import make_table, save_table
    from tensorstate.clusters import connected

    settings = Settings(data=options.data, digits=options.digits, epochs=options.epochs)
    experiments = grid(_architectures(options), options.seeds, options.random_labels)
    check_settings(options.out, settings)
    cluster = {
        "n_workers": options.workers,
        "threads_per_worker": 1,
        "env": ENVIRONMENT,
        "host": "127.0.0.1",
    }
    where = (
        {"scheduler": options.scheduler}
        if options.scheduler
        else {"cluster": "local", "options": cluster}
    )
    with connected(**where) as client:
        run_grid(experiments, settings, options.out, client, advance=_tell)
    about = {
        "settings": dataclasses.asdict(settings),
        "seeds": options.seeds,
        "machine": machine(),
        "versions": versions(PACKAGES),
    }
    table = make_table(rows_of(experiments, options.out), about)
    save_table(table, options.out / TABLE)
    print(f"{len(experiments):,} networks in {options.out / TABLE}")


def report(options: argparse.Namespace) -> None:
    """Write the page of a table."""
    from scripts.paper.page import make_page
    from scripts.paper.table import load_table

    table = load_table(options.table or options.out / TABLE)
    options.out.mkdir(parents=True, exist_ok=True)
    print(make_page(table).save(options.out / "report.html"))


def results(options: argparse.Namespace) -> None:
    """Print what a table says of the claims."""
    from scripts.paper.markdown import results as markdown_of
    from scripts.paper.table import load_table

    print(markdown_of(load_table(options.table)), end="")


def _architectures(options: argparse.Namespace) -> dict[str, Architecture]:
    chosen = {name: ARCHITECTURES[name] for name in options.architectures}
    if options.widths:
        return {name: each.with_widths(options.widths) for name, each in chosen.items()}
    return chosen


def _tell(done: int, total: int) -> None:
    print(f"\r{done} of {total} networks", end="\n" if done == total else "", file=sys.stderr)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return number


def _percent(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a percentage from 0 to 100")
    return number


if __name__ == "__main__":
    sys.exit(main())
