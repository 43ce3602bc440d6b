"""One run open for writing: a bounded queue, and one background thread that writes.

The network's thread only hands packed rows over. It waits when the queue is full; nothing is
dropped, and nothing else makes it wait.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from dataclasses import replace
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
from tensorstate.storage.queue import WriteQueue, WrittenLayer

__all__ = ["CHUNK_BYTES", "MODES", "QUEUE_BYTES", "RunWriter", "check_write_options"]

MODES = ("x", "w", "resume")
QUEUE_BYTES = 256 << 20
CHUNK_BYTES = 4 << 20
_SMALLEST_CHUNK_BYTES = 64 << 10
_WRITER = "0"


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
            self._queue = WriteQueue(self._group, capacity, layers, self.where)
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

    def stored_info(self, name: str) -> LayerInfo | None:
        """Return how a resumed run recorded a layer, or None if it has no such layer."""
        group = self._group.get(name) if self.committed_before else None
        if not isinstance(group, zarr.Group):
            return None
        return LayerInfo.from_attributes(group.attrs, f"run {self.where}, layer {name}")

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
        self._queue.add(name, WrittenLayer(info, part, where))

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


_open_queues: weakref.WeakValueDictionary[str, WriteQueue] = weakref.WeakValueDictionary()
_registry_lock = threading.Lock()

# Plain atexit is too late: Zarr encodes chunks on a pool of threads that is shut down before.
getattr(threading, "_register_atexit", atexit.register)(_close_all)
