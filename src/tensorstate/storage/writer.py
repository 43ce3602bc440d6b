"""One run open for writing: a bounded queue, and one background thread that writes.

The network's thread only hands packed rows over. It waits when the queue is full; nothing is
dropped, and nothing else makes it wait.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from tensorstate.storage import format as store_format
from tensorstate.storage.cache import HistogramCache
from tensorstate.storage.format import (
    Codec,
    LayerInfo,
    StoreLike,
    committed_instances,
    describe_store,
    store_identity,
)
from tensorstate.storage.part import PartReader, PartWriter

__all__ = ["CHUNK_BYTES", "MODES", "QUEUE_BYTES", "RunWriter", "check_write_options"]

MODES = ("x", "w", "resume")
QUEUE_BYTES = 256 << 20
CHUNK_BYTES = 4 << 20
_SMALLEST_CHUNK_BYTES = 64 << 10
_WRITER = "0"


@dataclass
class _Layer:
    """A capture that is being written."""

    info: LayerInfo
    part: PartWriter
    where: str
    unwritten: int = 0  # bytes that wait in the queue

    @property
    def instances(self) -> int:
        return self.part.committed // self.info.positions


class RunWriter:
    """A run that is open for writing.

    Parameters
    ----------
    store : path, URL or Zarr store, optional
        Where the run is written; None keeps it in memory.
    mode : {"x", "w", "resume"}
        "x" refuses a store that holds anything, "w" overwrites a run, "resume" goes on after the
        committed instances of a run.
    queue_bytes : int, default 256 MiB
        Most bytes of packed states that wait to be written, the chunks being filled included
        (but at least 64 KiB a layer). When they are reached, `put` waits.
    codec : {"lz4", "zstd"}
        How chunks are compressed.
    layers : int, default 1
        How many layers are expected; their chunks share half of `queue_bytes`.
    model : str, optional
        Name of the network, for the run's attributes.

    Raises
    ------
    FileExistsError
        If the store holds a run already (mode "x"), or something that is no run.
    OSError
        If the store cannot be written.
    """

    def __init__(
        self,
        store: StoreLike | None = None,
        *,
        mode: str = "x",
        queue_bytes: int = QUEUE_BYTES,
        codec: Codec = "lz4",
        layers: int = 1,
        model: str = "",
    ) -> None:
        check_write_options(mode, queue_bytes, codec)
        self.store = MemoryStore() if store is None else store
        self._codec = codec
        layers = max(1, layers)
        self._adding = threading.Lock()
        self._chunk_budget = queue_bytes // 2
        self._chunk_bytes = _chunk_bytes(self._chunk_budget // layers)
        with _registry_lock:
            _check_not_open(self.store)
            self._group = _open_group(self.store, mode, model)
            self.committed_before = committed_instances(self._group)
            capacity = queue_bytes - min(self._chunk_budget, layers * self._chunk_bytes)
            self._queue = _WriteQueue(self._group, capacity, layers, self.where)
            _open_queues[store_identity(self.store)] = self._queue
        # The thread must not outlive the last capture that can give it something to write.
        weakref.finalize(self, self._queue.close_soon).atexit = False

    @property
    def where(self) -> str:
        """The store, as it is named in messages."""
        return describe_store(self.store)

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written."""
        return self._queue.closing

    @property
    def layer_count(self) -> int:
        """Layers that were added so far."""
        return len(self._queue.layers)

    @property
    def piece_bytes(self) -> int:
        """Most bytes that should be handed over in one piece."""
        return max(1, self._queue.capacity // 4)

    def expect_another_layer(self) -> None:
        """Wait for one more layer before the run's instances are committed."""
        self._queue.expected_layers += 1

    def add_layer(self, name: str, info: LayerInfo) -> int:
        """Create the layer, or go on with it in a resumed run; return its committed instances.

        Raises
        ------
        ValueError
            If the resumed run recorded other states under this name, or did not record it, or the
            run is closed.
        """
        with self._adding:
            self._queue.check_open()
            self._add_layer(name, info)
        return self.committed_before

    def _add_layer(self, name: str, info: LayerInfo) -> None:
        if name in self._queue.layers:
            raise ValueError(
                f"run {self.where} has a capture named {name!r} already: "
                "give every capture a name of its own"
            )
        where = f"run {self.where}, layer {name}, part {_WRITER}"
        if self.committed_before:
            array = self._stored_part(name, info, where)
        else:
            chunk_bytes = _chunk_bytes(min(self._chunk_bytes, self._chunk_budget))
            self._chunk_budget -= chunk_bytes
            chunk_rows = max(1, chunk_bytes // info.width)
            group = store_format.create_layer(self._group, name, info)
            array = store_format.create_part(group, _WRITER, info.width, chunk_rows, self._codec)
        part = PartWriter(array, where, info.positions, self.committed_before * info.positions)
        self._queue.add(name, _Layer(info, part, where))

    def _stored_part(self, name: str, info: LayerInfo, where: str) -> zarr.Array[Any]:
        group = self._group.get(name)
        array = self._group.get(f"{name}/part-{_WRITER}/states")
        if not isinstance(group, zarr.Group) or not isinstance(array, zarr.Array):
            raise ValueError(
                f"run {self.where} has {self.committed_before} committed instances without a layer "
                f"{name!r}: resume with the layers that it began with, or write a new run"
            )
        stored = LayerInfo.from_attributes(group.attrs, where)
        # The order of the captures may change between two programs without changing the states.
        if replace(stored, index=info.index) != info:
            raise ValueError(
                f"{where} was recorded as {stored}, but is to go on as {info}: "
                "states of both kinds cannot be mixed in one run"
            )
        return array

    def put(self, name: str, rows: NDArray[np.uint8]) -> None:
        """Hand rows (n, W) over; wait while the queue is full.

        Raises
        ------
        OSError
            If the background thread could not write something; the cause is named.
        ValueError
            If the run is closed.
        """
        self._queue.put(name, rows)

    def reader(self, name: str) -> PartReader:
        """Return the committed rows of a layer."""
        layer = self._queue.layers[name]
        return PartReader(layer.part.array, layer.where)

    def cache(self, name: str) -> HistogramCache | None:
        """Return the cached counts of a layer; None for a run that ends with this process."""
        if isinstance(self._group.store, MemoryStore):
            return None
        return HistogramCache(self._group.store_path / name, self._queue.layers[name].info.width)

    def flush(self) -> None:
        """Return when everything handed over is written and committed."""
        if not self.closed:
            self._queue.call(self._queue.flush)

    def reset(self, name: str) -> None:
        """Drop every row of a layer."""
        part = self._queue.layers[name].part
        queue = self._queue

        def drop() -> None:
            part.reset()
            queue.flush()

        queue.call(drop)

    def close(self) -> None:
        """Commit everything and stop the thread; closing twice does nothing."""
        self._queue.close()


@dataclass
class _Action:
    """Something that the thread does between two pieces, while somebody waits for it."""

    run: Callable[[], None]
    done: threading.Event = field(default_factory=threading.Event)


class _WriteQueue:
    """The queue, its thread, and the layers, which only the thread writes to."""

    def __init__(self, group: zarr.Group, capacity: int, expected_layers: int, where: str) -> None:
        self.capacity = capacity
        self.layers: dict[str, _Layer] = {}
        self.closing = False
        self._group = group
        self.expected_layers = expected_layers
        self._where = where
        self._instances = committed_instances(group)
        self._stored_layers = set(group.group_keys()) if self._instances else set()
        self._items: deque[tuple[str, NDArray[np.uint8]] | _Action] = deque()
        self._bytes = 0
        self._awake = False
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tensorstate-writer", daemon=True)
        self._thread.start()

    def add(self, name: str, layer: _Layer) -> None:
        with self._changed:
            self.layers = {**self.layers, name: layer}

    def put(self, name: str, rows: NDArray[np.uint8]) -> None:
        with self._changed:
            if not self._has_room(rows.nbytes):
                self._wake()
                self._changed.wait_for(lambda: self._has_room(rows.nbytes))
            self.check_open()
            self._bytes += rows.nbytes
            self._items.append((name, rows))
            layer = self.layers[name]
            layer.unwritten += rows.nbytes
            # Waking the thread for less than a chunk would cost more than it does.
            if layer.unwritten >= layer.part.chunk_bytes or 2 * self._bytes >= self.capacity:
                self._wake()

    def call(self, run: Callable[[], None]) -> None:
        """Let the thread run something after all that waits, and return when it has."""
        action = _Action(run)
        with self._changed:
            self.check_open()
            self._items.append(action)
            self._wake()
        action.done.wait()
        self._raise_error()

    def flush(self) -> None:
        """Commit every row that was appended; runs on the thread."""
        for layer in self.layers.values():
            layer.part.flush()
        self._commit_instances()

    def close_soon(self) -> None:
        with self._changed:
            self.closing = True
            self._wake()

    def join(self) -> None:
        self._thread.join()

    def close(self) -> None:
        self.close_soon()
        self.join()
        self._raise_error()

    def _has_room(self, size: int) -> bool:
        """Whether so many bytes may be queued; after a failure they are not, but nobody waits."""
        fits = self._bytes + size <= self.capacity
        return fits or self._bytes == 0 or self._error is not None

    def _wake(self) -> None:
        self._awake = True
        self._changed.notify_all()

    def check_open(self) -> None:
        self._raise_error()
        if self.closing:
            raise ValueError(f"the run {self._where} is closed: nothing more can be recorded")

    def _raise_error(self) -> None:
        if self._error is not None:
            raise OSError(
                f"capturing into {self._where} stopped, {self._instances} instances are "
                f"committed: {type(self._error).__name__}: {self._error}"
            ) from self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._awake = self._awake and bool(self._items or self.closing)
                self._changed.wait_for(lambda: self._awake)
                item = self._items.popleft() if self._items else None
            try:
                # What follows a failure would leave a gap, so it is not written.
                if self._error is None:
                    self._do(item)
            except BaseException as error:
                self._error = error
            with self._changed:
                if isinstance(item, tuple):
                    self._bytes -= item[1].nbytes
                    self.layers[item[0]].unwritten -= item[1].nbytes
                self._changed.notify_all()
            if isinstance(item, _Action):
                item.done.set()
            if item is None:
                return

    def _do(self, item: tuple[str, NDArray[np.uint8]] | _Action | None) -> None:
        """Write one piece of rows, or run an action; None is the end."""
        if item is None:
            self.flush()
        elif isinstance(item, _Action):
            item.run()
        else:
            name, rows = item
            self.layers[name].part.append(rows)
            # The first pass through a network makes its layers known one by one.
            if len(self.layers) >= self.expected_layers:
                self._commit_instances()

    def _commit_instances(self) -> None:
        """Raise the run's committed prefix to what every layer has committed."""
        if not self.layers:
            return
        instances = min(layer.instances for layer in self.layers.values())
        if self._stored_layers - self.layers.keys():
            # A layer of a resumed run that does not go on stands where it was.
            instances = min(instances, self._instances)
        if instances != self._instances:
            self._group.attrs["instances"] = instances
            self._instances = instances


def check_write_options(mode: str, queue_bytes: int, codec: str) -> None:
    """Raise ValueError for an option of `RunWriter` that makes no sense."""
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}: choose one of {', '.join(map(repr, MODES))}")
    if queue_bytes < 1:
        raise ValueError(f"queue_bytes is a positive number of bytes, not {queue_bytes}")
    if codec not in store_format.CODECS:
        choices = ", ".join(map(repr, store_format.CODECS))
        raise ValueError(f"unknown codec {codec!r}: choose one of {choices}")


def _open_group(store: StoreLike, mode: str, model: str) -> zarr.Group:
    where = describe_store(store)
    if not store_format.store_holds_something(store):
        return store_format.create_run(store, model)
    try:
        group = store_format.open_format(store, "r+")
    except ValueError as error:
        raise FileExistsError(
            f"{error}; nothing was overwritten, choose another storage path"
        ) from None
    if mode == "resume":
        return group
    if mode == "w":
        return store_format.create_run(store, model, overwrite=True)
    raise FileExistsError(
        f"{where} already holds a run with {committed_instances(group)} committed instances: "
        "choose another storage path, or mode='w' to overwrite it, or mode='resume' to go on"
    )


def _chunk_bytes(share: int) -> int:
    return max(_SMALLEST_CHUNK_BYTES, min(CHUNK_BYTES, share))


def _check_not_open(store: StoreLike) -> None:
    """Raise FileExistsError if this process is writing the run already."""
    queue = _open_queues.get(store_identity(store))
    if queue is None:
        return
    if not queue.closing:
        raise FileExistsError(
            f"the run {describe_store(store)} is open for writing in this process: "
            "close the captures that write it, or choose another storage path"
        )
    queue.join()


def _close_all() -> None:
    queues = list(_open_queues.values())
    for queue in queues:
        queue.close_soon()
    for queue in queues:
        queue.join()


_open_queues: weakref.WeakValueDictionary[str, _WriteQueue] = weakref.WeakValueDictionary()
_registry_lock = threading.Lock()

# Plain atexit is too late: Zarr encodes chunks on a pool of threads that is shut down before.
getattr(threading, "_register_atexit", atexit.register)(_close_all)
