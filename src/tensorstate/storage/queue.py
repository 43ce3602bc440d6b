"""The queue in front of a run, and the one thread that empties it into the store."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray

from tensorstate.nodes import update_attributes
from tensorstate.storage.format import LayerInfo
from tensorstate.storage.listed import layers_attribute
from tensorstate.storage.live import LiveCounter
from tensorstate.storage.opening import OpenedRun, WriterPart
from tensorstate.storage.part_writer import PartWriter

__all__ = ["LaterRows", "WriteQueue", "WrittenLayer"]


class LaterRows(Protocol):
    """Rows that are still on their way into the host's memory when they are handed over."""

    @property
    def nbytes(self) -> int:
        """Bytes of the rows, which count as waiting in the queue."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def wait(self) -> NDArray[np.uint8]:
        """Return the rows (n, W) when they are there; the thread that writes calls this."""

    def release(self) -> None:
        """Take the memory of the rows back, which nobody reads any more; called once."""


@dataclass
class WrittenLayer:
    """A capture that is being written."""

    info: LayerInfo
    part: PartWriter
    where: str
    counter: LiveCounter | None = None  # None where states are stored
    unwritten: int = 0  # bytes that wait in the queue

    @property
    def instances(self) -> int:
        """Instances of which every row is committed."""
        return self.part.instances

    def reset(self) -> None:
        """Drop every row."""
        self.part.reset()
        if self.counter is not None:
            self.counter.clean()


class _Piece(NamedTuple):
    """Rows of whole instances of a layer, with their lengths if instances differ in them."""

    name: str
    rows: NDArray[np.uint8] | LaterRows
    lengths: NDArray[np.int64] | None

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + (0 if self.lengths is None else self.lengths.nbytes)

    def wait(self) -> NDArray[np.uint8]:
        return self.rows if isinstance(self.rows, np.ndarray) else self.rows.wait()

    def release(self) -> None:
        if not isinstance(self.rows, np.ndarray):
            self.rows.release()


@dataclass
class _Action:
    """Something that the thread does between two pieces, while somebody waits for it."""

    run: Callable[[], None]
    done: threading.Event = field(default_factory=threading.Event)


class WriteQueue:
    """The queue, its thread, and the layers, which only the thread writes to.

    Parameters
    ----------
    opened : OpenedRun
        The run, and what it had committed before.
    part : WriterPart or None
        The part that is written; None for a run that is written alone.
    capacity : int
        Most bytes that wait in the queue; a larger piece is let in when it is empty.
    expected_layers : int
        Layers that must be there before instances are committed, unless there was a second batch.
    where : str
        Names the run, and the part, in an error.

    Attributes
    ----------
    went_on : bool
        Whether a layer had a second batch: then all that the network passes are there.
    """

    def __init__(
        self,
        opened: OpenedRun,
        part: WriterPart | None,
        capacity: int,
        expected_layers: int,
        where: str,
    ) -> None:
        self.capacity = capacity
        self.layers: dict[str, WrittenLayer] = {}
        self.closing = False
        self.went_on = False
        self._is_ended = False
        self._group = opened.group if part is None else None
        self._lock = opened.lock
        self.expected_layers = expected_layers
        self._where = where
        self._instances = opened.committed
        self._stored_layers = opened.stored_layers
        self._room = opened.room
        self._items: deque[_Piece | _Action] = deque()
        self._bytes = 0
        self._awake = False
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="tensorstate-writer", daemon=True)
        self._thread.start()

    def add(self, name: str, layer: WrittenLayer) -> None:
        """Add a layer that rows may be put for."""
        with self._changed:
            self.layers = {**self.layers, name: layer}

    def put(
        self,
        name: str,
        rows: NDArray[np.uint8] | LaterRows,
        lengths: NDArray[np.int64] | None = None,
    ) -> None:
        """Queue rows (n, W) of a layer; wait while there is no room.

        Rows that are on their way are released by the queue if it took them, written or not.
        """
        piece = _Piece(name, rows, lengths)
        size = piece.nbytes
        with self._changed:
            if not self._has_room(size):
                self._wake()
                self._changed.wait_for(lambda: self._has_room(size))
            self.check_open()
            self._bytes += size
            self._items.append(piece)
            layer = self.layers[name]
            layer.unwritten += size
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

    def store_attributes(self, run: zarr.Group, changes: Mapping[str, Any]) -> None:
        """Store attributes of the run, of which the thread may write others meanwhile."""

        def store() -> None:
            if self._group is None:
                update_attributes(run, changes)
            else:
                self._group = update_attributes(self._group, changes)

        self.call(store)

    def flush(self) -> None:
        """Commit every row that was appended; runs on the thread."""
        for layer in self.layers.values():
            layer.part.flush()
        self._commit()

    def fail(self, problem: str) -> None:
        """Write and commit nothing more, after an error elsewhere; who uses the queue is told."""
        with self._changed:
            # Not the error itself: what it was raised from would keep the captures alive.
            self._error = self._error or OSError(problem)
            self._changed.notify_all()

    @property
    def failed(self) -> bool:
        """Whether something could not be written: nothing more is."""
        return self._error is not None

    def close_soon(self) -> None:
        """Let the thread commit everything and end, without waiting for it."""
        with self._changed:
            self.closing = True
            self._wake()

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def close(self, *, interrupted: bool) -> None:
        """Commit everything and end the thread.

        If something else ended the capture, layers may not be there yet that the first batch did
        not reach. Its instances are not committed then, nor where nobody calls this.
        """
        self._is_ended = not interrupted
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
        """Raise what happened in the background, or ValueError if the run is closed."""
        self._raise_error()
        if self.closing:
            raise ValueError(f"the run {self._where} is closed: nothing more can be recorded")

    def _raise_error(self) -> None:
        if self._error is not None:
            raise OSError(
                f"capturing into {self._where} stopped, {self._instances} instances are "
                f"committed: {type(self._error).__name__}: {self._error}"
            ) from self._error

    def _work(self) -> None:
        try:
            self._run()
        finally:
            self._lock.release()

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
            if isinstance(item, _Piece):
                item.release()
            with self._changed:
                if isinstance(item, _Piece):
                    self._bytes -= item.nbytes
                    self.layers[item.name].unwritten -= item.nbytes
                self._changed.notify_all()
            if isinstance(item, _Action):
                item.done.set()
            if item is None:
                return

    def _do(self, item: _Piece | _Action | None) -> None:
        """Write one piece of rows, or run an action; None is the end."""
        if item is None:
            self.flush()
            for counter in self._counters():
                counter.count(self._instances)
        elif isinstance(item, _Action):
            item.run()
        else:
            self.layers[item.name].part.append(item.wait(), item.lengths)
            self._commit()

    def _commit(self) -> None:
        """Commit what all layers have of the same instances, and count what waits for it."""
        before = self._instances
        self._commit_instances()
        if self._instances != before:
            for counter in self._counters():
                # Not those of instances that a resumed run would drop.
                counter.count_if_due(self._instances)

    def _counters(self) -> Iterator[LiveCounter]:
        """Yield what counts while states are captured."""
        for layer in self.layers.values():
            if layer.counter is not None:
                yield layer.counter

    def _commit_instances(self) -> None:
        """Raise the committed prefix, of the run or the part, to what every layer has committed."""
        # The first pass through a network makes its layers known one by one. What is committed
        # before would be a run that lacks some of them.
        is_whole = len(self.layers) >= self.expected_layers or self.went_on or self._is_ended
        if not self.layers or not is_whole:
            return
        instances = min(layer.instances for layer in self.layers.values())
        if self._stored_layers - self.layers.keys():
            # A layer of a resumed run that does not go on stands where it was.
            instances = min(instances, self._instances)
        wanted = instances
        if self._room is not None:
            # What is past that is never seen by a reader, who would count it twice.
            instances = min(instances, self._room.instances)
        if instances != self._instances:
            if self._group is not None:
                self._group = update_attributes(
                    self._group, {"instances": instances, **layers_attribute(self.layers)}
                )
            for layer in self.layers.values():
                layer.part.commit_instances(instances, self.layers)
            self._instances = instances
        if self._room is not None and wanted > instances:
            raise ValueError(self._room.error)
