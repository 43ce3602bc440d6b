"""A store that answers with errors, for every n-th call."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

import tensorstate as ts
from benchmarks._faults import jobs
from benchmarks._faults.case import (
    RIGHT,
    TOLD,
    Case,
    Chance,
    NotInjuredError,
    WrongError,
    check_counts,
)
from benchmarks._faults.jobs import INSTANCES
from benchmarks._faults.kill import check_rows, prepare_captured
from benchmarks.kills import activations

__all__ = ["CASES", "FailingStore"]

_MOST_CALLS = 20  # until it fails


class FailingStore(WrapperStore[LocalStore]):
    """A store that raises an error instead of every n-th answer.

    Parameters
    ----------
    store : LocalStore
        What it wraps.
    every : int
        How often; from the first one on that is answered with an error.
    error : type
        What is raised.
    calls : iterator of int, optional
        Counts the calls, also of the stores that Zarr makes of this one.
    """

    def __init__(
        self,
        store: LocalStore,
        every: int = 1 << 62,
        error: type[Exception] = OSError,
        calls: Any = None,
    ) -> None:
        super().__init__(store)
        self.every, self.error = every, error
        self.calls = itertools.count(1) if calls is None else calls
        self.failed = [0]

    def _with_store(self, store: LocalStore) -> FailingStore:
        other = type(self)(store, self.every, self.error, self.calls)
        other.failed = self.failed
        return other

    def _fail(self, key: str) -> None:
        if next(self.calls) % self.every == 0:
            self.failed[0] += 1
            raise self.error(f"the store does not answer for {key}")

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return a value, or fail."""
        self._fail(key)
        return await super().get(key, prototype, byte_range)

    async def exists(self, key: str) -> bool:
        """Tell whether there is a value, or fail."""
        self._fail(key)
        return await super().exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Store a value, or fail."""
        self._fail(key)
        await super().set(key, value)

    async def delete(self, key: str) -> None:
        """Remove a value, or fail."""
        self._fail(key)
        await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all values of a prefix, or fail."""
        self._fail(prefix)
        await super().delete_dir(prefix)

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """List names, or fail."""
        self._fail(prefix)
        return super().list_dir(prefix)


class _StoreError(Exception):
    """As stores have that are neither of the system nor of Zarr."""


_ERRORS = [OSError, TimeoutError, ConnectionResetError, _StoreError]


def _use(store: Any, what: str) -> None:
    """Capture into a store, or read what there is of it."""
    if what == "capture":
        resumed = ts.StateRecorder("conv_1", store, mode="resume", queue_bytes=20_000)
        with closing(resumed) as recorder:
            for begin in range(ts.open_run(store).instances, INSTANCES, 20):
                recorder.record(activations("conv_1", begin, begin + 20))
        return
    run = ts.open_run(store)
    if what == "verify":
        damage = run.verify()
        if len(damage):
            raise ValueError(damage.problem[0])
        return
    if list(run) != jobs.ALL_LAYERS or run.instances != INSTANCES:
        raise WrongError(f"the run shows {list(run)} with {run.instances} instances")
    for name, layer in run.items():
        rows = jobs.rows(name)
        if what == "count":
            check_counts(layer, rows, name)
        elif (layer.raw_states[:] != rows).any():
            raise WrongError(f"{name} reads as other rows")


class _FailingStore:
    def __init__(self, what: str) -> None:
        self.what = what
        self.error: Exception | None = None

    def injure(self, subject: Any, folder: Path, draw: Chance) -> str:
        shutil.copytree(subject.whole / "run", folder / "run")
        for cache in (folder / "run").glob("*/histogram"):
            shutil.rmtree(cache)
        if self.what == "capture":
            shutil.rmtree(folder / "run")
            new = ts.StateRecorder("conv_1", folder / "run", queue_bytes=20_000)
            with closing(new) as recorder:
                recorder.record(activations("conv_1", 0, 20))
        every, error = draw.randint(1, _MOST_CALLS), draw.choice(_ERRORS)
        store = FailingStore(LocalStore(folder / "run"), every, error)
        self.error = None
        try:
            _use(store, self.what)
        except WrongError:
            raise
        except Exception as raised:
            self.error = raised
        if not store.failed[0]:
            raise NotInjuredError
        return f"{error.__name__} for every call of {every}: {self.error}"

    def check(self, subject: Any, folder: Path) -> str:
        if self.what == "capture":
            check_rows(folder / "run", 20)
            _use(folder / "run", "capture")
            check_rows(folder / "run", INSTANCES)
        else:
            _use(folder / "run", self.what)
        return RIGHT if self.error is None else TOLD


def _failing(what: str, text: str) -> Case:
    case = _FailingStore(what)
    return Case(f"store-{what}", text, 100, prepare_captured, case.injure, case.check)


CASES = [
    _failing("capture", "a store that fails every n-th call of a capture"),
    _failing("read", "a store that fails every n-th call while a run is opened and read"),
    _failing("count", "a store that fails every n-th call of a count"),
    _failing("verify", "a store that fails every n-th call of verify"),
]
