"""Recording states without any framework; every capture ends here."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from tensorstate.bits import check_activations, pack_states, packed_width
from tensorstate.storage import (
    QUEUE_BYTES,
    Codec,
    HistogramCache,
    LayerInfo,
    LayerStates,
    PartReader,
    RunWriter,
    StoreLike,
    check_layer_name,
    check_write_options,
    store_identity,
)

__all__ = ["CaptureOptions", "Pack", "RecordedStates", "StateRecorder"]

Pack = Callable[[int, int], tuple[NDArray[np.uint8], int]]
"""Packs the instances from one number up to another: packed states, and NaN activations met."""


@dataclass(frozen=True)
class CaptureOptions:
    """How states are made and stored.

    Attributes
    ----------
    mode : {"x", "w", "resume"}
        "x" refuses a storage path that holds anything, "w" overwrites a run, "resume" goes on
        after the committed instances of one.
    threshold : float
        A neuron fires where its activation is strictly greater.
    channel_axis : int
        Axis of the activations that holds the neurons.
    codec : {"lz4", "zstd"}
        How chunks are compressed.
    queue_bytes : int
        Most bytes of packed states that wait to be written; when reached, the model waits.
    """

    mode: str = "x"
    threshold: float = 0.0
    channel_axis: int = -1
    codec: Codec = "lz4"
    queue_bytes: int = QUEUE_BYTES

    def __post_init__(self) -> None:
        check_write_options(self.mode, self.queue_bytes, self.codec)
        if not np.isfinite(self.threshold):
            raise ValueError(f"the threshold is a finite number, not {self.threshold}")

    def open(self, store: StoreLike | None, layers: int = 1, model: str = "") -> RunWriter:
        """Open a run for writing with these options."""
        return RunWriter(
            store,
            mode=self.mode,
            queue_bytes=self.queue_bytes,
            codec=self.codec,
            layers=layers,
            model=model,
        )


class RecordedStates(LayerStates):
    """The interface of everything that records: `LayerStates`, and control of the recording.

    A capture may be used as a context manager, which closes it at the end.
    """

    capture_on: bool

    def _recorder(self) -> StateRecorder:
        raise NotImplementedError

    def _layer_info(self) -> LayerInfo | None:
        return self._recorder()._layer_info()

    def _parts(self) -> Sequence[PartReader]:
        return self._recorder()._parts()

    def _cache(self) -> HistogramCache | None:
        return self._recorder()._cache()

    @property
    def state_count(self) -> int:
        """States recorded so far, repeats included."""
        return self._recorder().state_count

    def flush(self) -> None:
        """Return when everything recorded so far is written and committed."""
        self._recorder().flush()

    def close(self) -> None:
        """Commit everything and end the recording of the whole run; reading goes on working."""
        self._recorder().close()

    def reset_states(self) -> None:
        """Forget every state of this layer, and go on recording from nothing."""
        self._recorder().reset_states()
        self._counted = None

    def __enter__(self) -> RecordedStates:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class StateRecorder(RecordedStates):
    """Records the states of one layer from arrays, without any framework.

    Parameters
    ----------
    name : str
        Name of the capture, unique in its run.
    disk_path : path, URL or Zarr store, optional
        Run to record into; recorders of one process with the same path share a run. Without it,
        states are kept in memory.
    threshold : float, default 0
        A neuron fires where its activation is strictly greater.
    channel_axis : int, default -1
        Axis of the activations that holds the neurons; axis 0 holds the instances.
    mode, codec, queue_bytes
        As for `build_efficiency_model`.

    Raises
    ------
    FileExistsError
        If the path holds a run already, and the mode does not say what to do with it.
    OSError
        If the path cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> recorder = StateRecorder("spikes")
    >>> recorder.record(np.array([[1.0, -1.0], [1.0, -2.0], [0.0, 3.0]]))
    >>> recorder.state_count, recorder.counts().tolist()
    (3, [2, 1])
    """

    def __init__(
        self,
        name: str,
        disk_path: StoreLike | None = None,
        threshold: float = 0.0,
        channel_axis: int = -1,
        *,
        mode: str = "x",
        codec: Codec = "lz4",
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        options = CaptureOptions(mode, threshold, channel_axis, codec, queue_bytes)
        check_layer_name(name)
        self._set_up(name, options, _shared_run(disk_path, options))

    @classmethod
    def in_run(
        cls, name: str, writer: RunWriter, options: CaptureOptions, source_layer: str
    ) -> StateRecorder:
        """Make a recorder of a run that is open already."""
        recorder = cls.__new__(cls)
        check_layer_name(name)
        recorder._set_up(name, options, writer, source_layer)
        return recorder

    def _set_up(
        self,
        name: str,
        options: CaptureOptions,
        writer: RunWriter,
        source_layer: str = "",
    ) -> None:
        self.name = name
        self.capture_on = True
        self._options = options
        self._writer = writer
        self._source_layer = source_layer
        self._index: int | None = None
        self._info: LayerInfo | None = None
        self._rows = 0
        self._warned = False
        self._lock = threading.Lock()

    def set_index(self, index: int) -> None:
        """Set the place among the captures of the run; it is stored with the first batch."""
        self._index = index

    def record(self, array: Any) -> None:
        """Record the states of a batch.

        Parameters
        ----------
        array : array_like, shape (instances, ..., neurons, ...)
            Activations of a batch: anything with ``__array__`` or DLPack. Axis 0 holds the
            instances, `channel_axis` the neurons, and all others together are the positions.

        Raises
        ------
        TypeError
            If it is not an array of real numbers.
        ValueError
            If it has another number of neurons or positions than the batches before, or the run
            is closed.
        OSError
            If the background thread could not write; the cause is named.
        """
        if not self.capture_on:
            return
        array = _as_array(array)
        batch = np.moveaxis(array, self.channel_axis_of(array.shape), -1)
        check_activations(batch)

        def pack(start: int, stop: int) -> tuple[NDArray[np.uint8], int]:
            return pack_states(batch[start:stop], self.threshold)

        self.record_pieces(batch.shape, pack)

    def record_pieces(self, shape: tuple[int, ...], pack: Pack) -> None:
        """Record a batch that is packed elsewhere, in pieces that the queue has room for.

        Parameters
        ----------
        shape : tuple of int
            Shape of the activations with the neurons on the last axis: (instances, ..., neurons).
        pack : callable
            Takes two instance numbers of the batch, from 0 on; returns the packed states (uint8,
            (..., W)) of the instances from the first up to the second, and how many NaN were met.
        """
        if not self.capture_on:
            return
        with self._lock:
            self._check_shape(shape)
            self._put_pieces(shape, pack)

    @property
    def threshold(self) -> float:
        """A neuron fires where its activation is strictly greater."""
        return self._options.threshold

    def channel_axis_of(self, shape: tuple[int, ...]) -> int:
        """Return the axis of the neurons, from 0 on, in a batch of activations of this shape.

        Raises
        ------
        ValueError
            If there is no such axis, or it is that of the instances.
        """
        axis, ndim = self._options.channel_axis, len(shape)
        if ndim < 2 or not -ndim <= axis < ndim or axis % ndim == 0:
            raise ValueError(
                f"capture {self.name!r} needs instances on axis 0 and neurons on axis {axis}, "
                f"but got an array of shape {shape}"
            )
        return axis % ndim

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        neurons, positions = shape[-1], math.prod(shape[1:-1])
        if self._info is None:
            if positions == 0:
                raise ValueError(
                    f"capture {self.name!r} got a batch of shape {shape}, "
                    "with no position in an instance"
                )
            options = self._options
            info = LayerInfo(
                neurons,
                positions,
                float(options.threshold),
                options.channel_axis,
                self._source_layer,
                self._writer.layer_count if self._index is None else self._index,
            )
            self._rows = self._writer.add_layer(self.name, info) * positions
            self._info = info
        elif (neurons, positions) != (self._info.neurons, self._info.positions):
            raise ValueError(
                f"capture {self.name!r} got {neurons} neurons at {positions} positions, after "
                f"batches of {self._info.neurons} at {self._info.positions}: "
                "all instances of a run have the same shape"
            )

    def _put_pieces(self, shape: tuple[int, ...], pack: Pack) -> None:
        width = packed_width(shape[-1])
        rows_of_instance = math.prod(shape[1:-1])
        step = max(1, self._writer.piece_bytes // (width * rows_of_instance))
        nans = 0
        for start in range(0, shape[0], step):
            packed, piece_nans = pack(start, min(start + step, shape[0]))
            rows = packed.reshape(-1, width)
            self._writer.put(self.name, rows)
            self._rows += len(rows)
            nans += piece_nans
        if nans and not self._warned:
            self._warned = True
            warnings.warn(
                f"capture {self.name!r} met {nans} NaN activations in one batch; a NaN counts as "
                "not firing, and later ones are not reported again",
                RuntimeWarning,
                stacklevel=4,
            )

    @property
    def state_count(self) -> int:
        """States recorded so far, repeats included."""
        return self._rows

    def flush(self) -> None:
        """Return when everything recorded so far is written and committed."""
        self._writer.flush()

    def close(self) -> None:
        """Commit everything and end the recording of the whole run; reading goes on working."""
        self._writer.close()

    def reset_states(self) -> None:
        """Forget every state of this layer, and go on recording from nothing."""
        with self._lock:
            if self._info is not None:
                self._writer.reset(self.name)
            self._rows = 0
            self._counted = None
            self._warned = False

    def _recorder(self) -> StateRecorder:
        return self

    def _layer_info(self) -> LayerInfo | None:
        return self._info

    def _parts(self) -> Sequence[PartReader]:
        if self._info is None:
            return ()
        self.flush()
        return (self._writer.reader(self.name),)

    def _cache(self) -> HistogramCache | None:
        return None if self._info is None else self._writer.cache(self.name)


def _shared_run(store: StoreLike | None, options: CaptureOptions) -> RunWriter:
    """Open a run for a capture placed by hand, or join the one that another such capture opened."""
    if store is None:
        return options.open(None)
    with _shared_lock:
        writer = _shared_runs.get(store_identity(store))
        if writer is None or writer.closed:
            writer = _shared_runs[store_identity(store)] = options.open(store)
        else:
            writer.expect_another_layer()
    return writer


_shared_runs: WeakValueDictionary[str, RunWriter] = WeakValueDictionary()
_shared_lock = threading.Lock()


def _as_array(array: Any) -> NDArray[Any]:
    if hasattr(array, "__array__") or isinstance(array, (list, tuple)):
        return np.asarray(array)
    if hasattr(array, "__dlpack__"):
        return np.from_dlpack(array)
    raise TypeError(f"states are recorded from arrays, not from {type(array).__name__}")
