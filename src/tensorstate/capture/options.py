"""How states are made and stored, and the runs that captures placed by hand share."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from weakref import WeakValueDictionary

from tensorstate.capture.thresholds import Threshold, check_threshold
from tensorstate.storage import (
    QUEUE_BYTES,
    Codec,
    Histogram,
    Parameters,
    RunWriter,
    StoreLike,
    WriterPart,
    check_histogram,
    check_write_options,
    store_identity,
    writer_part,
)

__all__ = ["CaptureOptions", "shared_run"]


@dataclass(frozen=True)
class CaptureOptions:
    """How states are made and stored.

    Attributes
    ----------
    mode : {"x", "w", "resume"}
        "x" refuses a storage path that holds anything, "w" overwrites a run, "resume" goes on
        after the committed instances of one.
    threshold : float, sequence of float, or callable
        A neuron fires where its activation is strictly greater.
    channel_axis : int
        Axis of the activations that holds the neurons.
    codec : {"lz4", "zstd"}
        How chunks are compressed.
    queue_bytes : int
        Most bytes of packed states that wait to be written; when reached, the model waits.
    part : str, int or None
        The part of the run that is written beside those of other processes; "rank" takes the
        number from the environment variable RANK. None if this process writes the run alone.
    first_instance : int or None
        Needed with a part: the number, in the whole run, of the first instance of the part.
    histogram : {"stored", "live"}
        Whether states are stored, or counted while they are captured and dropped.
    variable_positions : bool
        Whether instances may differ in their number of positions.
    """

    mode: str = "x"
    threshold: Threshold = 0.0
    channel_axis: int = -1
    codec: Codec = "lz4"
    queue_bytes: int = QUEUE_BYTES
    part: str | int | None = None
    first_instance: int | None = None
    histogram: Histogram = "stored"
    variable_positions: bool = False

    def __post_init__(self) -> None:
        check_write_options(self.mode, self.queue_bytes, self.codec)
        check_histogram(self.histogram)
        writer_part(self.part, self.first_instance)
        object.__setattr__(self, "threshold", check_threshold(self.threshold))

    def open(
        self,
        store: StoreLike | None,
        layers: int = 1,
        model: str = "",
        parameters: Parameters | None = None,
    ) -> RunWriter:
        """Open a run for writing with these options; its network may be known to have parameters.

        Raises
        ------
        FileExistsError, OSError
            As for `RunWriter`.
        ValueError
            As for `RunWriter`; or if a resumed run was recorded from a network with more or fewer
            parameters.
        """
        writer = RunWriter(
            store,
            mode=self.mode,
            queue_bytes=self.queue_bytes,
            codec=self.codec,
            layers=layers,
            model=model,
            part=self.part,
            first_instance=self.first_instance,
        )
        try:
            if parameters is not None:
                writer.set_parameters(parameters)
        except BaseException:
            writer.close()
            raise
        return writer


def shared_run(store: StoreLike | None, options: CaptureOptions) -> RunWriter:
    """Open a run for a capture placed by hand, or join the one that another such capture opened.

    One that failed is not joined, but opened anew: whoever captured into it is told the cause.
    """
    if store is None:
        return options.open(None)
    part = writer_part(options.part, options.first_instance)
    with _shared_lock:
        writer = _shared_runs.get((store_identity(store), part))
        if writer is None or writer.closed or writer.failed:
            writer = _shared_runs[store_identity(store), part] = options.open(store)
        else:
            writer.expect_another_layer()
    return writer


_shared_runs: WeakValueDictionary[tuple[str, WriterPart | None], RunWriter] = WeakValueDictionary()
_shared_lock = threading.Lock()
