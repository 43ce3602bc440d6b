"""Which instances of the data one capture passes through the model, and under which numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from tensorstate.storage import open_run, writer_part

__all__ = ["SHARD", "Span", "committed", "span_of"]


class _Shard(click.ParamType):  # type: ignore[type-arg]
    """``I/N``: number I, from 0 on, of N shards of about the same size."""

    name = "I/N"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int]:
        number, slash, shards = str(value).partition("/")
        if not (slash and number.isdecimal() and shards.isdecimal()):
            self.fail(f"{value!r} is not I/N, as 0/4", parameter, context)
        if int(number) >= int(shards):
            self.fail(f"of {shards} shards, the last is {int(shards) - 1}", parameter, context)
        return int(number), int(shards)


SHARD = _Shard()


@dataclass(frozen=True)
class Span:
    """Instances of the data, those of the whole run or of a part of it.

    Attributes
    ----------
    start : int
        The first one in the data.
    stop : int or None
        Where they end; None if only the data tell.
    part : str or None
        The part of the run that they become; None if the run is written alone.
    first_instance : int or None
        The number of the first one in the run, of a part.
    """

    start: int
    stop: int | None
    part: str | None = None
    first_instance: int | None = None


def span_of(
    length: int | None,
    limit: int | None,
    shard: tuple[int, int] | None,
    part: str | None,
    first_instance: int | None,
) -> Span:
    """Return which instances are to be captured.

    Parameters
    ----------
    length : int or None
        How many the data have, if they tell.
    limit : int or None
        At most so many of them.
    shard : (int, int) or None
        Which of how many shards.
    part, first_instance
        The part that the data are, as a whole; "rank" is the one of the variable RANK.

    Raises
    ------
    click.UsageError
        If options exclude each other, or shards are asked for of data without a known length.
    ValueError
        If the part is named as no part can be.

    Examples
    --------
    >>> span_of(10, None, (1, 3), None, None)
    Span(start=3, stop=6, part='1', first_instance=3)
    """
    if (part is None) != (first_instance is None):
        raise click.UsageError("--part and --first-instance go together")
    if shard is not None and part is not None:
        raise click.UsageError("--shard names the part already: leave --part out")
    known = [n for n in (length, limit) if n is not None]
    stop = min(known) if known else None
    if shard is None:
        writer = writer_part(part, first_instance)
        return Span(0, stop, writer.name if writer else None, first_instance)
    if stop is None:
        raise click.UsageError("--shard needs data of a known length: give --limit as well")
    number, shards = shard
    start = stop * number // shards
    return Span(start, stop * (number + 1) // shards, str(number), start)


def committed(output: str, part: str | None) -> int:
    """Return how many instances a run, or a part of it, has committed; 0 if it is not there."""
    try:
        run = open_run(output)
    except FileNotFoundError:
        return 0
    return run.instances if part is None else len(run.parts.get(part, ()))
