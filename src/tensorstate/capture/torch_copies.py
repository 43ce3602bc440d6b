"""Packed states on their way from a device to the host, while the model goes on."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from tensorstate.bits import StatePacker
from tensorstate.capture.torch_packing import TensorBatch, pack_on_device
from tensorstate.storage import LaterRows, RunWriter

__all__ = ["BufferPool", "CopyStream", "CudaStream", "DeviceBatch", "DeviceCopies", "copies_of"]

_NANS_BYTES = np.dtype(np.int64).itemsize


class CopyStream(Protocol):
    """Copies bytes to the host in the order of the calls, beside what the model does."""

    def buffer(self, size: int) -> torch.Tensor:
        """Return memory of the host for so many bytes, in uint8."""

    def copy(self, *pairs: tuple[torch.Tensor, torch.Tensor]) -> Callable[[], None]:
        """Begin to copy from and into each of these; return what waits until all is there."""


class CudaStream:
    """A side stream of a CUDA device.

    Parameters
    ----------
    device : torch.device
        The device that is copied from.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def buffer(self, size: int) -> torch.Tensor:
        """Return pinned memory, which alone is copied into beside computations."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def copy(self, *pairs: tuple[torch.Tensor, torch.Tensor]) -> Callable[[], None]:
        """Begin to copy when the model's stream has come to here."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            for source, target in pairs:
                target.copy_(source, non_blocking=True)
                # Its memory is not given to the model again before it is copied.
                source.record_stream(self._stream)
            # Whoever waits sleeps, and leaves the processor to the model.
            done = torch.cuda.Event(blocking=True)
            done.record()
        wait: Callable[[], None] = done.synchronize
        return wait


class BufferPool:
    """Memory that is used again and again, as pinning it takes longer than a copy.

    Parameters
    ----------
    make : callable
        Makes a buffer of a number of bytes.
    limit : int
        Most bytes that are kept while nobody uses them.
    """

    def __init__(self, make: Callable[[int], torch.Tensor], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._free: list[torch.Tensor] = []  # smallest first
        self._bytes = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> torch.Tensor:
        """Return a buffer of at least `size` bytes, and of no more than twice as many."""
        with self._lock:
            at = bisect_left(self._free, size, key=len)
            if at < len(self._free) and len(self._free[at]) <= 2 * size:
                buffer = self._free.pop(at)
                self._bytes -= len(buffer)
                return buffer
        return self._make(size)

    def give_back(self, buffer: torch.Tensor) -> None:
        """Keep a buffer for the next one who needs it, if there is room."""
        with self._lock:
            insort(self._free, buffer, key=len)
            self._bytes += len(buffer)
            while self._bytes > self._limit:
                self._bytes -= len(self._free.pop(0))


class _RowsOnTheWay:
    """Packed states that are being copied into a buffer, and behind them the number of NaN."""

    def __init__(
        self,
        shape: tuple[int, int],
        buffer: torch.Tensor,
        wait: Callable[[], None],
        pool: BufferPool,
        note_nans: Callable[[int], None],
    ) -> None:
        self._shape = shape
        self._buffer = buffer
        self._wait = wait
        self._pool = pool
        self._note_nans = note_nans

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def nbytes(self) -> int:
        rows, width = self._shape
        return rows * width

    def wait(self) -> NDArray[np.uint8]:
        self._wait()
        there: NDArray[np.uint8] = self._buffer.numpy()
        self._note_nans(int(there[self.nbytes : self.nbytes + _NANS_BYTES].view(np.int64)[0]))
        return there[: self.nbytes].reshape(self._shape)

    def release(self) -> None:
        self._pool.give_back(self._buffer)


class DeviceCopies:
    """All copies from one device into one run: their stream, and the buffers that they share.

    Buffers in use are bounded by the queue of the run, in which they wait.

    Parameters
    ----------
    stream : CopyStream
        What copies.
    limit : int
        Most bytes of buffers that are kept for later.
    """

    def __init__(self, stream: CopyStream, limit: int) -> None:
        self._stream = stream
        self._pool = BufferPool(stream.buffer, limit)

    def begin(
        self, rows: torch.Tensor, nans: torch.Tensor, note_nans: Callable[[int], None]
    ) -> LaterRows:
        """Begin to copy packed states to the host.

        Parameters
        ----------
        rows : torch.Tensor of uint8, shape (n, W)
            On the device.
        nans : torch.Tensor of int64, shape ()
            How many activations were NaN, on the device.
        note_nans : callable
            Called with that number when it has come, by the thread that waits for the rows.
        """
        size = rows.numel()
        # Buffers outlive the mode of a pass: one of inference could not be written outside of it.
        with torch.inference_mode(False), torch.no_grad():
            buffer = self._pool.take(size + _NANS_BYTES)
            behind = buffer[size : size + _NANS_BYTES]
            wait = self._stream.copy(
                (rows.reshape(-1), buffer[:size]), (nans.reshape(1).view(torch.uint8), behind)
            )
        return _RowsOnTheWay((len(rows), rows.shape[1]), buffer, wait, self._pool, note_nans)


@dataclass(frozen=True)
class DeviceBatch(TensorBatch):
    """Activations on a device, of which nobody but the thread that writes waits for the states.

    Attributes
    ----------
    tensor : torch.Tensor, shape (instances, ..., neurons)
        In any memory layout.
    copies : DeviceCopies
        Copies the states.
    note_nans : callable
        Is told later how many activations of a piece of the batch were NaN.
    """

    copies: DeviceCopies
    note_nans: Callable[[int], None]

    def pack(  # type: ignore[override]
        self, start: int, stop: int, packer: StatePacker
    ) -> tuple[LaterRows, int]:
        """Pack which neurons of some instances fire, and begin to copy that; see `Batch.pack`."""
        packed, nans = pack_on_device(self.tensor[start:stop], packer.limits, -1)
        return self.copies.begin(packed.flatten(0, -2), nans, self.note_nans), 0


def copies_of(run: RunWriter, device: torch.device) -> DeviceCopies:
    """Return what copies from a CUDA device into a run, one for all of its layers."""
    with _copies_lock:
        of_run = _copies.setdefault(run, {})
        if device not in of_run:
            of_run[device] = DeviceCopies(CudaStream(device), run.capacity)
        return of_run[device]


_copies: WeakKeyDictionary[RunWriter, dict[torch.device, DeviceCopies]] = WeakKeyDictionary()
_copies_lock = threading.Lock()
