"""Clusters that counts run on: joined by address, or started for the time of a command."""

from __future__ import annotations

import contextlib
import importlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dask
import yaml
from dask.utils import parse_timedelta

from tensorstate.configuration import option
from tensorstate.counting.schedulers import workers_of

__all__ = ["KINDS", "check_workers", "connected", "parse_options"]

KINDS = {
    "local": "distributed:LocalCluster",
    "slurm": "dask_jobqueue:SLURMCluster",
    "pbs": "dask_jobqueue:PBSCluster",
    "sge": "dask_jobqueue:SGECluster",
    "lsf": "dask_jobqueue:LSFCluster",
    "moab": "dask_jobqueue:MoabCluster",
    "oar": "dask_jobqueue:OARCluster",
    "htcondor": "dask_jobqueue:HTCondorCluster",
}
"""What a cluster is called, and the class that starts it."""

# Nobody but this machine is let in, and no port is taken that somebody else may want.
_LOCAL = {"dashboard_address": "127.0.0.1:0"}

# What has to be the same everywhere: it makes the keys, or reads and writes what is stored.
_PACKAGES = ("tensorstate", "numba", "numpy", "zarr")


@contextlib.contextmanager
def connected(
    scheduler: str | None = None,
    cluster: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Iterator[Any]:
    """Connect to a cluster, so that counts run there until the block ends.

    Parameters
    ----------
    scheduler : str, optional
        The address of a scheduler that runs already, such as ``tcp://node7:8786``, or the JSON
        file that ``dask scheduler --scheduler-file`` writes.
    cluster : str, optional
        A cluster to start, and to end with the block: one of `KINDS`, or ``module:Class`` for any
        class of Dask's clusters.
    options : mapping, optional
        What the class is called with. The option ``workers`` is ours: how many workers to ask for,
        with ``cluster.scale``, where the class does not start them by itself.

    Yields
    ------
    distributed.Client or None
        None if neither is given: then counts run where Dask's configuration says.

    Raises
    ------
    ImportError
        If a package is missing.
    OSError
        If there is no such scheduler, the cluster does not start, or no worker is there in time
        (``tensorstate.workers-timeout`` in Dask's configuration).
    ValueError
        If options make no sense, or workers have other versions (`check_workers`).

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstate as ts
    >>> with connected(cluster="local", options={"n_workers": 1, "processes": False}):
    ...     ts.count_states(np.array([[5], [5], [0]], np.uint8)).distinct
    2
    """
    if scheduler and cluster:
        raise ValueError(
            f"the scheduler {scheduler} is one that runs already, and {cluster} is a cluster to "
            "start: give one of them"
        )
    if not (scheduler or cluster):
        yield None
        return
    with contextlib.ExitStack() as stack:
        if scheduler:
            client, where = _join(scheduler), f"the scheduler {scheduler}"
        else:
            client, where = stack.enter_context(_started(str(cluster), options or {}))
        stack.enter_context(client)
        _wait_for_a_worker(client, where)
        check_workers(client)
        yield client


def check_workers(client: Any) -> None:
    """Check that all workers that are there have our versions of what counts depend on.

    Parameters
    ----------
    client : distributed.Client
        Connected to them.

    Raises
    ------
    ValueError
        If one has another version of tensorstate, numba, numpy or zarr, or lacks it.
    """
    found = client.get_versions(packages=_PACKAGES)
    names = {address: worker.get("name") for address, worker in workers_of(client).items()}
    ours = found["client"]["packages"]
    for address, worker in sorted(found["workers"].items()):
        theirs = worker["packages"]
        for package in _PACKAGES:
            if theirs.get(package) != ours.get(package):
                raise ValueError(
                    f"worker {names.get(address, address)} at {address} has {package} "
                    f"{theirs.get(package) or 'not installed'}, but here it is "
                    f"{ours.get(package)}: install the same version everywhere"
                )


def parse_options(text: str | None) -> dict[str, Any]:
    """Read the options of a cluster.

    Parameters
    ----------
    text : str or None
        A YAML file, or YAML itself.

    Returns
    -------
    dict
        Empty if there are none.

    Raises
    ------
    ValueError
        If it is no mapping of names to values.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> parse_options("{queue: short, cores: 4, memory: 8 GB}")
    {'queue': 'short', 'cores': 4, 'memory': '8 GB'}
    """
    if not text:
        return {}
    is_file = text.endswith((".yaml", ".yml"))
    what = f"the file {text}" if is_file else f"{text!r}"
    try:
        options = yaml.safe_load(Path(text).read_text() if is_file else text)
    except yaml.YAMLError as error:
        raise ValueError(f"{what} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise ValueError(
            f"{what} gives a cluster no options: write name: value, as in "
            "'{cores: 4, memory: 8 GB}'"
        )
    return options


def _join(scheduler: str) -> Any:
    from distributed import Client
    from distributed.comm import get_address_host_port

    address = _address_in(Path(scheduler)) if scheduler.endswith(".json") else scheduler
    try:
        if not address.startswith("inproc://"):
            # Of an address that makes no sense, a client is left that is not closed. As garbage it
            # would be, in any thread: in that of the next client's loop it waits for a lock which
            # the one that starts the loop holds.
            get_address_host_port(address)
        # One that cannot connect would stay Dask's default, and fail whatever is counted next.
        with Client(address, timeout=_connect_seconds(), set_as_default=False):
            pass
        return Client(address, timeout=_connect_seconds())
    except (OSError, ValueError) as error:
        raise OSError(
            f"no scheduler answers at {address} ({error}): check the address, and that "
            "'dask scheduler' runs there"
        ) from error


def _address_in(file: Path) -> str:
    """Return the address in the file of a scheduler, which may be about to start."""
    end = time.monotonic() + _connect_seconds()
    while True:
        try:
            return str(json.loads(file.read_text())["address"])
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            if time.monotonic() > end:
                raise OSError(
                    f"{file} is not the file of a scheduler ({type(error).__name__}: {error}): "
                    "start one with 'dask scheduler --scheduler-file'"
                ) from None
        time.sleep(0.1)


@contextlib.contextmanager
def _started(kind: str, options: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    """Start a cluster, and end it with the block; give a client and what it is called."""
    from distributed import Client

    arguments = {**(_LOCAL if kind == "local" else {}), **options}
    workers = arguments.pop("workers", None)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int)):
        raise ValueError(f"workers is a number of workers, not {workers!r}")
    with _make(kind, arguments) as cluster:
        if workers is not None:
            cluster.scale(workers)
        yield Client(cluster), f"the cluster {kind}"


def _make(kind: str, arguments: Mapping[str, Any]) -> Any:
    make = _class_of(kind)
    try:
        cluster = make(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        cause: BaseException = error
        while cause.__cause__:
            cause = cause.__cause__
        # The values of options are not repeated: they may be credentials.
        raise (OSError if isinstance(error, RuntimeError) else ValueError)(
            f"cluster {kind} does not start with the options {sorted(arguments)}: {cause}"
        ) from error
    if not (hasattr(cluster, "scheduler_address") and hasattr(cluster, "__exit__")):
        raise ValueError(
            f"cluster {kind} is none: it gives an object of the type {type(cluster).__name__}, so "
            "name a class of Dask clusters"
        )
    return cluster


def _class_of(kind: str) -> Any:
    name = KINDS.get(kind, kind)
    module, _, path = name.partition(":")
    if not (module and path):
        raise ValueError(
            f"there is no cluster {kind!r}: choose one of {', '.join(KINDS)}, or module:Class"
        )
    try:
        return getattr(importlib.import_module(module), path)
    except ModuleNotFoundError as error:
        hint = "pip install 'tensorstate[cluster]'" if module == "dask_jobqueue" else "install it"
        raise ImportError(f"cluster {kind} needs {error.name}, which is missing: {hint}") from error
    except AttributeError:
        raise ValueError(f"cluster {kind} is not there: {module} has no {path}") from None
    except TypeError:  # of a name that begins with a dot
        raise ValueError(f"cluster {kind} is not there: {module} names no module") from None


def _wait_for_a_worker(client: Any, where: str) -> None:
    seconds = float(parse_timedelta(option("workers-timeout")))
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError:
        raise TimeoutError(
            f"{where} has no worker after {seconds:g} s: start some, or raise "
            "tensorstate.workers-timeout in Dask's configuration"
        ) from None


def _connect_seconds() -> float:
    return float(parse_timedelta(dask.config.get("distributed.comm.timeouts.connect")))
