"""Recording states without any framework; every capture ends here."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate.bits import StatePacker, packed_width
from tensorstate.capture.batches import Batch, HostBatch
from tensorstate.capture.lengths import mask_of_lengths, rows_where
from tensorstate.capture.options import CaptureOptions, shared_run
from tensorstate.capture.recorded import RecordedStates
from tensorstate.capture.shapes import neurons_axis, neurons_last, other_shape, pieces
from tensorstate.capture.thresholds import (
    KnownThreshold,
    Threshold,
    check_threshold,
    check_threshold_count,
    first_threshold,
)
from tensorstate.storage import (
    QUEUE_BYTES,
    Codec,
    Histogram,
    HistogramCache,
    LaterRows,
    LayerInfo,
    Parameters,
    PartReader,
    RunWriter,
    StoreLike,
    check_layer_name,
)

__all__ = ["StateRecorder"]


class StateRecorder(RecordedStates):
    """Records the states of one layer from arrays, without any framework.

    Parameters
    ----------
    name : str
        Name of the capture, unique in its run.
    disk_path : path, URL or Zarr store, optional
        Run to record into; recorders of one process with the same path share a run. Without it,
        states are kept in memory.
    threshold : float, sequence of float, or callable, default 0
        A neuron fires where its activation is strictly greater than the number, or than its own
        one of a sequence. A function is called once, with the first batch that is recorded
        (its neurons on the last axis), and returns one or the other for the whole run.
    channel_axis : int, default -1
        Axis of the activations that holds the neurons; axis 0 holds the instances.
    mode, codec, queue_bytes, part, first_instance, histogram
        As for `build_efficiency_model`.
    variable_positions : bool, default False
        Whether instances may differ in their number of positions, as sequences of different
        lengths and images of different sizes do.

    Raises
    ------
    FileExistsError
        If the path holds a run already, and the mode does not say what to do with it.
    OSError
        If the path cannot be written.
    TypeError, ValueError
        If an option makes no sense.

    Examples
    --------
    >>> import numpy as np
    >>> recorder = StateRecorder("spikes")
    >>> recorder.record(np.array([[1.0, -1.0], [1.0, -2.0], [0.0, 3.0]]))
    >>> recorder.state_count, recorder.counts().tolist()
    (3, [2, 1])

    A sigmoid fires above its middle; and where no number is known beforehand, the median of each
    neuron in a representative first batch splits its activations into halves:

    >>> sigmoid = StateRecorder("sigmoid", threshold=0.5)
    >>> halves = StateRecorder(
    ...     "halves", threshold=lambda x: np.median(x, axis=tuple(range(x.ndim - 1)))
    ... )
    >>> halves.record(np.array([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]]))
    >>> halves.threshold
    (2.0, 20.0)

    Of two sequences that are padded to the same length, only what belongs to them:

    >>> lstm = StateRecorder("lstm", variable_positions=True)
    >>> lstm.record(np.ones((2, 5, 20)), lengths=[5, 3])
    >>> lstm.instance_count, lstm.state_count, lstm.histogram([1]).total
    (2, 8, 3)
    """

    def __init__(
        self,
        name: str,
        disk_path: StoreLike | None = None,
        threshold: Threshold = 0.0,
        channel_axis: int = -1,
        *,
        mode: str = "x",
        codec: Codec = "lz4",
        queue_bytes: int = QUEUE_BYTES,
        part: str | int | None = None,
        first_instance: int | None = None,
        histogram: Histogram = "stored",
        variable_positions: bool = False,
    ) -> None:
        options = CaptureOptions(
            mode,
            threshold,
            channel_axis,
            codec,
            queue_bytes,
            part,
            first_instance,
            histogram,
            variable_positions,
        )
        check_layer_name(name)
        self._set_up(name, options, shared_run(disk_path, options))

    @classmethod
    def in_run(
        cls,
        name: str,
        writer: RunWriter,
        options: CaptureOptions,
        source_layer: str,
        parameters: Callable[[], Parameters | None],
    ) -> StateRecorder:
        """Make a recorder of a run that is open already.

        `parameters` tells how many of them the source layer has when its first states come.
        """
        recorder = cls.__new__(cls)
        check_layer_name(name)
        recorder._set_up(name, options, writer, source_layer)
        recorder._count_parameters = parameters
        return recorder

    # Returns when everything that a framework does behind its caller's back is recorded.
    settle: Callable[[], None] = staticmethod(lambda: None)

    _count_parameters: Callable[[], Parameters | None] = staticmethod(lambda: None)

    def _set_up(
        self,
        name: str,
        options: CaptureOptions,
        writer: RunWriter,
        source_layer: str = "",
    ) -> None:
        self.name = name
        self._capture_on = True
        self._options = options
        self._writer = writer
        self._source_layer = source_layer
        self._index: int | None = None
        self._info: LayerInfo | None = None
        self._packer: StatePacker | None = None
        self._rows = self._instances = 0
        self._warned = False
        self._lock = threading.Lock()

    @property
    def capture_on(self) -> bool:
        """Whether batches are recorded; takes effect at once."""
        return self._capture_on

    @capture_on.setter
    def capture_on(self, value: bool) -> None:
        self.settle()
        self._capture_on = value

    @property
    def variable_positions(self) -> bool:
        """Whether instances may differ in their number of positions."""
        return self._options.variable_positions

    def set_index(self, index: int) -> None:
        """Set the place among the captures of the run; it is stored with the first batch."""
        self._index = index

    def record(self, array: Any, lengths: ArrayLike | None = None) -> None:
        """Record the states of a batch.

        Parameters
        ----------
        array : array_like, shape (instances, ..., neurons, ...)
            Activations of a batch: anything with ``__array__`` or DLPack. Axis 0 holds the
            instances, `channel_axis` the neurons, and all others together are the positions.
        lengths : array_like of int, shape (instances,), optional
            With `variable_positions`: how many entries of the first axis of positions belong to
            each instance, none at all included; what is behind them is not recorded.

        Raises
        ------
        TypeError
            If it is not an array of real numbers, or lengths are not whole numbers.
        ValueError
            If it has another number of neurons than the batches before, or of positions, which
            may only differ with `variable_positions`; if lengths do not fit it; or the run is
            closed.
        OSError
            If the background thread could not write; the cause is named.
        """
        if not self.capture_on:
            return
        batch = neurons_last(array, self._options.channel_axis, self.name)
        mask = None if lengths is None else mask_of_lengths(lengths, batch.shape, self.name)
        rows, counts = rows_where(batch, mask, self.name)
        self.record_batch(HostBatch(rows), counts)

    def record_where(self, array: Any, mask: Any) -> None:
        """Record the states of a batch at the positions where a mask is true.

        Parameters
        ----------
        array : array_like, shape (instances, ..., neurons, ...)
            As for `record`.
        mask : array_like of bool, shape (instances, ...), or None
            See `rows_where`; None stands for all positions.

        Raises
        ------
        TypeError, ValueError, OSError
            As for `record`.
        """
        if mask is None or not self.capture_on:
            self.record(array)
            return
        batch = neurons_last(array, self._options.channel_axis, self.name)
        rows, counts = rows_where(batch, mask, self.name)
        self.record_batch(HostBatch(rows), counts)

    def record_batch(self, batch: Batch, lengths: NDArray[np.int64] | None = None) -> None:
        """Record the states of a batch, wherever it is; see `record`.

        With lengths (instances,), the batch is (rows, neurons): so many rows of each instance.
        """
        if lengths is not None and not self.variable_positions:
            raise ValueError(
                f"capture {self.name!r} was told how many positions each instance has, but records "
                "the same number of every one: make it with variable_positions=True"
            )
        # A replica may get none of the last batch: of no instances, TensorFlow's convolutions do
        # not even get the shape right.
        if not self.capture_on or not (batch.shape[0] if lengths is None else len(lengths)):
            return
        with self._lock:
            self._check_shape(batch)
            self._put_pieces(batch, lengths)

    def check_shape(self, shape: tuple[int | None, ...]) -> None:
        """Raise ValueError for a shape that cannot be recorded, as far as it is known."""
        neurons = shape[self.channel_axis_of(shape)]
        if neurons is not None:
            check_threshold_count(self._options.threshold, neurons, self.name)

    def channel_axis_of(self, shape: tuple[int | None, ...]) -> int:
        """Return the axis of the neurons, from 0 on, in a batch of activations of this shape.

        Raises
        ------
        ValueError
            If there is no such axis, or it is that of the instances.
        """
        return neurons_axis(shape, self._options.channel_axis, self.name)

    def _check_shape(self, batch: Batch) -> None:
        neurons = batch.shape[-1]
        positions = None if self.variable_positions else math.prod(batch.shape[1:-1])
        if self._info is None:
            if positions == 0:
                raise ValueError(
                    f"capture {self.name!r} got a batch of shape {batch.shape}, "
                    "with no position in an instance"
                )
            threshold = self._options.threshold
            stored = self._writer.stored_info(self.name) if callable(threshold) else None
            info = LayerInfo(
                neurons,
                positions,
                stored.threshold if stored else first_threshold(threshold, batch, self.name),
                self._options.channel_axis,
                self._source_layer,
                self._writer.layer_count if self._index is None else self._index,
                self._options.histogram,
                self._count_parameters(),
            )
            if callable(threshold):
                agreed = self._writer.agreed_info(self.name, info)
                info = replace(info, threshold=agreed.threshold)
            self._instances = self._writer.add_layer(self.name, info)
            self._rows = len(self._writer.reader(self.name))
            self._info = info
            self._packer = StatePacker(info.threshold)
            return
        self._writer.note_next_batch()
        if (neurons, positions) != (self._info.neurons, self._info.positions):
            raise other_shape(neurons, positions, self._info, self.name)

    def _put_pieces(self, batch: Batch, lengths: NDArray[np.int64] | None) -> None:
        """Pack and hand over, in pieces that the queue has room for."""
        width = packed_width(batch.shape[-1])
        assert self._packer is not None
        nans = 0
        most = max(1, self._writer.piece_bytes // width)
        for start, stop, own in pieces(batch.shape, lengths, most, self.variable_positions):
            rows: NDArray[np.uint8] | LaterRows = np.empty((0, width), np.uint8)
            if own is None or own.any():
                packed, piece_nans = batch.pack(start, stop, self._packer)
                rows = packed.reshape(-1, width) if isinstance(packed, np.ndarray) else packed
                nans += piece_nans
            self._writer.put(self.name, rows, own)
            self._rows += len(rows)
            self._instances += stop - start if own is None else len(own)
        self.note_nans(nans)

    def note_nans(self, nans: int) -> None:
        """Warn of NaN activations in a batch, if there were any and nobody was warned before."""
        if nans and not self._warned:
            self._warned = True
            warnings.warn(
                f"capture {self.name!r} met {nans} NaN activations in one batch; a NaN counts as "
                "not firing, and later ones are not reported again",
                RuntimeWarning,
                stacklevel=5,
            )

    @property
    def known_threshold(self) -> KnownThreshold | None:
        """The threshold, if it is known before the first batch."""
        threshold = check_threshold(self._options.threshold)
        return None if callable(threshold) else threshold

    @property
    def run(self) -> RunWriter:
        """The run that it records into."""
        return self._writer

    @property
    def state_count(self) -> int:
        """States recorded so far, repeats included."""
        self.settle()
        return self._rows

    @property
    def instance_count(self) -> int:
        """Instances recorded so far."""
        self.settle()
        return self._instances

    def flush(self) -> None:
        """Return when everything recorded so far is written and committed."""
        self.settle()
        self._writer.flush()

    def close(self) -> None:
        """Commit everything and end the recording of the whole run; reading goes on working."""
        self.settle()
        self._writer.close()

    def reset_states(self) -> None:
        """Forget every state of this layer, and go on recording from nothing."""
        self.settle()
        with self._lock:
            if self._info is not None:
                self._writer.reset(self.name)
            self._rows = self._instances = 0
            self._everything.forget()
            self._warned = False

    def _recorder(self) -> StateRecorder:
        return self

    def _layer_info(self) -> LayerInfo | None:
        self.settle()
        return self._info

    def _parts(self) -> Sequence[PartReader]:
        if self._layer_info() is None:
            return ()
        self.flush()
        return (self._writer.reader(self.name),)

    def _cache(self) -> HistogramCache | None:
        return None if self._info is None else self._writer.cache(self.name)
