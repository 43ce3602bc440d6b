"""One run open for writing: a bounded queue, and one background thread that writes.

The network's thread only hands packed rows over. It waits when the queue is full; nothing is
dropped, and nothing else makes it wait.
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from tensorstate.nodes import read_array, read_group, update_attributes
from tensorstate.storage import format as store_format
from tensorstate.storage.cache import HistogramCache
from tensorstate.storage.format import Codec, LayerInfo
from tensorstate.storage.live import LiveCounter
from tensorstate.storage.opening import MODES, WriterPart, open_to_write, writer_part
from tensorstate.storage.parameters import Parameters, store_if_missing
from tensorstate.storage.part import PartReader
from tensorstate.storage.part_writer import PartWriter
from tensorstate.storage.queue import LaterRows, WriteQueue, WrittenLayer
from tensorstate.storage.stores import StoreLike, describe_store, store_identity
from tensorstate.storage.survey import ONLY_PART

__all__ = ["CHUNK_BYTES", "MODES", "QUEUE_BYTES", "RunWriter", "check_write_options"]

QUEUE_BYTES = 256 << 20
CHUNK_BYTES = 4 << 20
_SMALLEST_CHUNK_BYTES = 64 << 10


class RunWriter:
    """A run that is open for writing.

    Parameters
    ----------
    store : path, URL or Zarr store, optional
        Where the run is written; None keeps it in memory.
    mode : {"x", "w", "resume"}
        "x" refuses a store that holds anything, "w" overwrites a run, "resume" goes on after the
        committed instances of a run. With a part, that is said of the part: "x" and "w" create the
        run or join it, and leave the parts of other writers as they are.
    queue_bytes : int, default 256 MiB
        Most bytes of packed states that wait to be written, the chunks being filled included
        (but at least 64 KiB a layer). When they are reached, `put` waits.
    codec : {"lz4", "zstd"}
        How chunks are compressed.
    layers : int, default 1
        How many layers are expected; their chunks share half of `queue_bytes`.
    model : str, optional
        Name of the network, for the run's attributes.
    part : str or int, optional
        The part to write, where several processes write one run, each its own part of every
        layer; "rank" takes the number from the environment variable RANK, as ``torchrun`` sets it.
        Without it, this writer writes the run alone.
    first_instance : int, optional
        Needed with a part: the number, in the whole run, of the first instance of the part. The
        parts may be of any length and be written in any order; no two may have an instance of the
        same number.

    Raises
    ------
    FileExistsError
        If the store holds a run or the part already (mode "x"), another writer has it open, or
        there is something that is no run.
    ValueError
        If options make no sense, or the run or part cannot go on with them.
    OSError
        If the store cannot be written.

    Notes
    -----
    On a disk, a second writer of the run or the part is refused, also in another process and on
    another machine if the file system passes locks on (a warning tells where it has none). In
    other stores, such as S3, only writers of one process are told apart: two processes that write
    the same part there at the same time destroy it, and nothing notices.

    Examples
    --------
    >>> store = zarr.storage.MemoryStore()
    >>> for part in range(2):
    ...     writer = RunWriter(store, part=part, first_instance=10 * part)
    ...     _ = writer.add_layer("spikes", LayerInfo(neurons=8, positions=1))
    ...     writer.put("spikes", np.full((10, 1), part, np.uint8))
    ...     writer.close()
    >>> from tensorstate.storage import open_run
    >>> open_run(store).instances, open_run(store)["spikes"].counts([9, 10]).tolist()
    (20, [1, 1])
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
        part: str | int | None = None,
        first_instance: int | None = None,
    ) -> None:
        check_write_options(mode, queue_bytes, codec)
        self.store = MemoryStore() if store is None else store
        self._codec = codec
        self._part = writer_part(part, first_instance)
        layers = max(1, layers)
        self._adding = threading.Lock()
        self._chunk_budget = queue_bytes // 2
        self._chunk_bytes = _chunk_bytes(self._chunk_budget // layers)
        with _registry_lock:
            _check_not_open(self.store, self._part)
            opened = open_to_write(self.store, mode, model, self._part)
            self._group = opened.group
            self.committed_before = opened.committed
            capacity = queue_bytes - min(self._chunk_budget, layers * self._chunk_bytes)
            what = f"{self.where}, part {self._part.name}" if self._part else self.where
            self._queue = WriteQueue(opened, self._part, capacity, layers, what)
            _open_queues[store_identity(self.store), self._part_name] = self._queue
        # The thread must not outlive the last capture that can give it something to write.
        weakref.finalize(self, self._queue.close_soon).atexit = False

    @property
    def where(self) -> str:
        """The store, as it is named in messages."""
        return describe_store(self.store)

    @property
    def _part_name(self) -> str | None:
        return self._part.name if self._part else None

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written, because everything is."""
        return self._queue.closing

    @property
    def failed(self) -> bool:
        """Whether something could not be written: nothing more is."""
        return self._queue.failed

    @property
    def layer_count(self) -> int:
        """Layers that were added so far."""
        return len(self._queue.layers)

    @property
    def capacity(self) -> int:
        """Most bytes that wait in the queue."""
        return self._queue.capacity

    @property
    def piece_bytes(self) -> int:
        """Most bytes that should be handed over in one piece."""
        return max(1, self._queue.capacity // 4)

    def expect_another_layer(self) -> None:
        """Wait for one more layer before the run's instances are committed."""
        self._queue.expected_layers += 1

    def set_parameters(self, parameters: Parameters) -> None:
        """Store how many parameters the network has.

        Raises
        ------
        ValueError
            If the run was recorded from a network with another number, or is closed.
        OSError
            If it cannot be written.
        """
        where = f"run {self.where}"
        stored = Parameters.from_attributes(self._group.attrs, where)
        if self.committed_before or self._part is not None:
            parameters.check_goes_on(stored, where)
            parameters = stored or parameters
        if parameters != stored:
            self._queue.store_attributes(self._group, parameters.attributes())

    def add_layer(self, name: str, info: LayerInfo) -> int:
        """Create the layer, or go on with it in a resumed run; return its committed instances.

        Raises
        ------
        ValueError
            If the resumed run, or another part of the run, recorded other states under this name,
            if the resumed run or part did not record it, or if the run is closed.
        OSError
            If it cannot be written; from then on nothing more is.
        """
        with self._adding:
            self._queue.check_open()
            try:
                self._add_layer(name, info)
            except ValueError:
                raise
            except Exception as error:  # stores have errors of their own
                # Instances of the other layers alone would be taken for those of the network.
                problem = f"layer {name} could not be added ({type(error).__name__}: {error})"
                self._queue.fail(problem)
                raise
        return self.committed_before

    def stored_info(self, name: str) -> LayerInfo | None:
        """Return how a resumed run, or another part, recorded a layer; None if neither did."""
        goes_on = self.committed_before or self._part is not None
        group = read_group(self._group.store_path / name) if goes_on else None
        if group is None:
            return None
        return LayerInfo.from_attributes(group.attrs, f"run {self.where}, layer {name}")

    def agreed_info(self, name: str, info: LayerInfo) -> LayerInfo:
        """Return how all parts record a layer that is new to this one.

        The first writer that asks decides: what a threshold function finds in the first batch
        would differ from part to part. A writer that writes the run alone is always the first.
        """
        if self._part is None:
            return info
        where = f"run {self.where}, layer {name}"
        return store_format.join_layer(self._group, name, info, where)[1]

    def _add_layer(self, name: str, info: LayerInfo) -> None:
        if name in self._queue.layers:
            raise ValueError(
                f"run {self.where} has a capture named {name!r} already: "
                "give every capture a name of its own"
            )
        part_name = self._part_name or ONLY_PART
        where = f"run {self.where}, layer {name}, part {part_name}"
        if self.committed_before:
            array = self._stored_part(name, part_name, info, where)
        else:
            array = self._new_part(name, part_name, info, where)
        part = PartWriter(array, where, info.positions, self.committed_before)
        counter = LiveCounter(part, info.positions, where) if info.histogram == "live" else None
        self._queue.add(name, WrittenLayer(info, part, where, counter))

    def _new_part(self, name: str, part: str, info: LayerInfo, where: str) -> zarr.Array[Any]:
        if self._part is None:
            group = store_format.create_layer(self._group, name, info)
        else:
            group, stored = store_format.join_layer(self._group, name, info, where)
            info.check_goes_on(stored, where)
            store_if_missing(group, info.parameters)
        chunk_bytes = _chunk_bytes(min(self._chunk_bytes, self._chunk_budget))
        self._chunk_budget -= chunk_bytes
        return store_format.create_part(
            group,
            part,
            info.width,
            max(1, chunk_bytes // info.width),
            self._codec,
            self._part.first_instance if self._part else None,
            offsets=info.positions is None,
        )

    def _stored_part(self, name: str, part: str, info: LayerInfo, where: str) -> zarr.Array[Any]:
        group = read_group(self._group.store_path / name)
        array = read_array(self._group.store_path / f"{name}/part-{part}/states")
        if group is None or array is None:
            raise ValueError(
                f"run {self.where}, part {part} has {self.committed_before} committed instances "
                f"without a layer {name!r}: resume with the layers that it began with, or write it "
                "anew"
            )
        info.check_goes_on(LayerInfo.from_attributes(group.attrs, where), where)
        store_if_missing(group, info.parameters)
        if self._part is not None:
            # A part of a run that was written alone until now.
            array = update_attributes(array, {"instances": self.committed_before})
        return array

    def put(
        self,
        name: str,
        rows: NDArray[np.uint8] | LaterRows,
        lengths: NDArray[np.int64] | None = None,
    ) -> None:
        """Hand rows (n, W) over, there or on their way; wait while the queue is full.

        Parameters
        ----------
        name : str
            The layer.
        rows : (n, W) uint8
            Packed states, in the order of the instances and their positions.
        lengths : (instances,) int64, optional
            How many of the rows each instance has: for a layer whose instances differ in that.

        Raises
        ------
        OSError
            If the background thread could not write something; the cause is named.
        ValueError
            If the run is closed.
        """
        self._queue.put(name, rows, lengths)

    def reader(self, name: str) -> PartReader:
        """Return the committed rows of a layer."""
        layer = self._queue.layers[name]
        return PartReader(layer.part.array, layer.where)

    def cache(self, name: str) -> HistogramCache | None:
        """Return the cached counts of a layer; None if a count from here is not to be stored.

        That is so for a run that ends with this process, for one part of several, whose count is
        not that of the layer, and for a layer whose states are counted while they are captured.
        """
        info = self._queue.layers[name].info
        alone = self._part is None and not isinstance(self._group.store, MemoryStore)
        if not alone or info.histogram == "live":
            return None
        return HistogramCache(self._group.store_path / name, info.width)

    def flush(self) -> None:
        """Return when everything handed over is written and committed."""
        if self.failed or not self.closed:
            self._queue.call(self._queue.flush)

    def reset(self, name: str) -> None:
        """Drop every row of a layer."""
        layer = self._queue.layers[name]

        def drop() -> None:
            layer.reset()
            self._queue.flush()

        self._queue.call(drop)

    def note_next_batch(self) -> None:
        """Say that a layer gets a second batch: layers that had none so far are not waited for."""
        self._queue.went_on = True

    def close(self) -> None:
        """Commit everything and stop the thread; closing twice does nothing.

        While an exception is handled, the first batch is only committed if all layers had it.
        """
        self._queue.close(interrupted=sys.exc_info()[0] is not None)


def check_write_options(mode: str, queue_bytes: int, codec: str) -> None:
    """Raise ValueError for an option of `RunWriter` that makes no sense."""
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}: choose one of {', '.join(map(repr, MODES))}")
    if queue_bytes < 1:
        raise ValueError(f"queue_bytes is a positive number of bytes, not {queue_bytes}")
    if codec not in store_format.CODECS:
        choices = ", ".join(map(repr, store_format.CODECS))
        raise ValueError(f"unknown codec {codec!r}: choose one of {choices}")


def _chunk_bytes(share: int) -> int:
    return max(_SMALLEST_CHUNK_BYTES, min(CHUNK_BYTES, share))


def _check_not_open(store: StoreLike, part: WriterPart | None) -> None:
    """Raise FileExistsError if this process is writing the run, or the part, already."""
    mine = part.name if part else None
    for (identity, other), queue in list(_open_queues.items()):
        alone = other is None or mine is None
        if identity != store_identity(store) or not (alone or other == mine):
            continue
        if queue.failed:
            # Who goes on after a failure need not wait until nothing refers to what failed.
            queue.close_soon()
        if not queue.closing:
            what = "the run" if alone else f"part {other!r} of the run"
            raise FileExistsError(
                f"{what} {describe_store(store)} is open for writing in this process: "
                "close the captures that write it, or choose another storage path"
            )
        queue.join()


def _close_all() -> None:
    queues = list(_open_queues.values())
    for queue in queues:
        queue.close_soon()
    for queue in queues:
        queue.join()


_open_queues: weakref.WeakValueDictionary[tuple[str, str | None], WriteQueue] = (
    weakref.WeakValueDictionary()
)
_registry_lock = threading.Lock()

# Plain atexit is too late: Zarr encodes chunks on a pool of threads that is shut down before.
getattr(threading, "_register_atexit", atexit.register)(_close_all)
