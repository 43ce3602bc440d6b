"""Dask clusters of real processes for the tests, on the loopback and without a dashboard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from distributed import Client, LocalCluster

SECONDS = 30
"""How long anything may take before a test gives up."""


@contextmanager
def local_cluster(memory_limit: int | str = 0) -> Iterator[Client]:
    """Give a client of two worker processes, each with one thread, that restart when they die."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=memory_limit,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def dask_commands(folder: Path) -> Iterator[tuple[Client, list[subprocess.Popen[bytes]]]]:
    """Start ``dask scheduler``, and ``dask worker`` twice; give a client and the two workers.

    They find each other by the scheduler's address. No nanny restarts a worker that dies.
    """
    with ExitStack() as stack:
        address = stack.enter_context(dask_scheduler(folder))
        workers = [stack.enter_context(dask_worker(folder, address)) for _ in range(2)]
        with Client(address, timeout=SECONDS) as client:
            client.wait_for_workers(2, timeout=SECONDS)
            yield client, workers


@contextmanager
def dask_scheduler(folder: Path) -> Iterator[str]:
    """Start ``dask scheduler``, which writes `folder`/scheduler.json; give its address."""
    file = folder / "scheduler.json"
    with _dask("scheduler", "--port", "0", "--scheduler-file", file):
        yield _address_in(file)


def dask_worker(
    folder: Path, address: str, *options: str, before: str = ""
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Start ``dask worker``, which looks for packages in the folder `before` first."""
    usual = ["--no-nanny", "--nthreads", "1", "--local-directory", str(folder)]
    return _dask("worker", address, *usual, *options, before=before)


def _address_in(file: Path) -> str:
    """Wait for the file that a scheduler writes, and return the address in it."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            return str(json.loads(file.read_text())["address"])
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.05)
    raise TimeoutError(f"the scheduler has not written {file} in {SECONDS} seconds")


@contextmanager
def _dask(*arguments: object, before: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of Dask until the end of the block."""
    command = [sys.executable, "-m", "dask", *map(str, arguments), "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--no-dashboard", "--dashboard-address", "127.0.0.1:0"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [before, *sys.path]))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(SECONDS)
