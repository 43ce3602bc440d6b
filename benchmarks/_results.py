"""What came of all benchmarks: the document, the ratios beside it, and their comparison."""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._measure import machine, versions

__all__ = ["Outcome", "commit", "compare", "document", "record"]

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("tensorstate", "numpy", "numba", "zarr", "numcodecs", "dask", "distributed", "scipy"),
    *("duckdb", "polars", "pyarrow", "tensorflow", "keras", "torch"),
)


class Outcome(NamedTuple):
    """What came of a benchmark.

    Attributes
    ----------
    name : str
        Of the benchmark.
    command : str
        What was run.
    output : str
        What it printed, as Markdown.
    seconds : float
        How long it took.
    exit_code : int
        0 if it succeeded.
    ratios : dict of str to float
        How many times as fast as a peer ours is, by what is compared.
    """

    name: str
    command: str
    output: str
    seconds: float
    exit_code: int
    ratios: dict[str, float]


def commit(folder: Path = ROOT) -> str:
    """Return which commit is checked out, and whether files differ from it."""

    def ask(*what: str) -> str:
        command = ["git", "-C", str(folder), *what]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        name = ask("describe", "--always", "--tags")
        changed = ask("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return "none: not in a checkout of Git"
    return f"{name} with local changes" if changed else name


def record(outcomes: Sequence[Outcome], form: str, made_of: str) -> dict[str, Any]:
    """Return what is kept as JSON: the ratios, and where they come from."""
    return {
        "commit": made_of,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "form": form,
        "ratios": {outcome.name: outcome.ratios for outcome in outcomes if outcome.ratios},
    }


def document(outcomes: Sequence[Outcome], facts: Mapping[str, Any]) -> str:
    """Return all that benchmarks printed, as Markdown."""
    minutes = sum(outcome.seconds for outcome in outcomes) / 60
    parts = [
        "# Results of the benchmarks",
        f"`python -m benchmarks` wrote this, in its {facts['form']} form, in {minutes:.0f} "
        "minutes: each benchmark in a process of its own, one after the other.",
        "\n".join(f"- {name}: {facts[name]}" for name in ("date", "commit", "machine", "versions")),
    ]
    for outcome in outcomes:
        parts += [
            f"## {outcome.name}",
            f"`{outcome.command}` took {outcome.seconds / 60:.1f} minutes.",
        ]
        if outcome.exit_code:
            parts.append(f"**It failed**, with exit code {outcome.exit_code}.")
        if outcome.output.strip():
            parts.append(outcome.output.strip())
    return "\n\n".join(parts) + "\n"


def compare(
    before: Mapping[str, Mapping[str, float]],
    now: Mapping[str, Mapping[str, float]],
    tolerance: float,
) -> list[str]:
    """Tell which ratios fell.

    Only benchmarks that both have are compared. Seconds are not: they say more of the machine.

    Parameters
    ----------
    before, now : mapping
        By benchmark and by what is compared: how many times as fast as a peer ours is.
    tolerance : float
        Which part of a ratio may be lost.

    Returns
    -------
    list of str
        A sentence for each ratio that fell by more, or that is not there any more.

    Raises
    ------
    ValueError
        If there is nothing to compare.

    Examples
    --------
    >>> compare({"packing": {"20 neurons": 4.0}}, {"packing": {"20 neurons": 2.0}}, 0.25)
    ['packing, 20 neurons: 2.00 times as fast as its peer, and 4.00 before']
    """
    both = [name for name in before if name in now]
    if not both:
        raise ValueError("no benchmark that was run has ratios to compare with: run others")
    found = []
    for name in both:
        for what, ratio in before[name].items():
            new = now[name].get(what)
            if new is None:
                found.append(f"{name}, {what}: not measured, and {ratio:.2f} before")
            elif new < ratio * (1 - tolerance):
                said = f"{new:.2f} times as fast as its peer, and {ratio:.2f} before"
                found.append(f"{name}, {what}: {said}")
    return found
