"""The options of commands whose counts may run on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from tensorstate.clusters import KINDS, connected, parse_options

__all__ = ["on_cluster"]

Result = TypeVar("Result")


def on_cluster(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command the options of a cluster, and run it with a client that is connected.

    Without these options it runs where Dask's configuration says.

    Parameters
    ----------
    command : callable
        A function with its own options, but not yet a ``click.Command``.

    Examples
    --------
    >>> @click.command()
    ... @on_cluster
    ... def count() -> None: ...
    >>> [option.name for option in count.params]
    ['scheduler', 'cluster', 'cluster_options']
    """

    @click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Run on a Dask cluster: its scheduler's address, or the JSON file that it wrote.",
    )
    @click.option(
        "--cluster",
        metavar="KIND",
        help=f"Start a Dask cluster and end it afterwards: {', '.join(KINDS)}, or module:Class.",
    )
    @click.option(
        "--cluster-options",
        metavar="YAML",
        help="What --cluster starts it with: a YAML file, or '{cores: 4, memory: 8 GB, "
        "workers: 10}'.",
    )
    @wraps(command)
    def run(
        *args: Any,
        scheduler: str | None,
        cluster: str | None,
        cluster_options: str | None,
        **kwargs: Any,
    ) -> Result:
        if scheduler and cluster:
            raise click.UsageError(
                "--scheduler joins a cluster and --cluster starts one: give one of them"
            )
        if cluster_options and not cluster:
            raise click.UsageError("--cluster-options are those of --cluster: give it as well")
        try:
            options = parse_options(cluster_options)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        try:
            with connected(scheduler, cluster, options):
                return command(*args, **kwargs)
        except ImportError as error:
            raise click.ClickException(str(error)) from error

    return run
