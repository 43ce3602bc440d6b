"""Runs on Zarr: written by one background thread, reopened without any framework."""

from tensorstate.storage.arrays import DamagedChunkError
from tensorstate.storage.cache import HistogramCache
from tensorstate.storage.entry import Spectrum
from tensorstate.storage.format import (
    Codec,
    Histogram,
    LayerInfo,
    check_histogram,
    check_layer_name,
)
from tensorstate.storage.layer import LayerStates
from tensorstate.storage.offsets import divide
from tensorstate.storage.opening import WriterPart, writer_part
from tensorstate.storage.part import PartReader
from tensorstate.storage.queue import LaterRows
from tensorstate.storage.run import StateRun, open_run
from tensorstate.storage.stores import StoreLike, store_identity
from tensorstate.storage.writer import QUEUE_BYTES, RunWriter, check_write_options

__all__ = [
    "QUEUE_BYTES",
    "Codec",
    "DamagedChunkError",
    "Histogram",
    "HistogramCache",
    "LaterRows",
    "LayerInfo",
    "LayerStates",
    "PartReader",
    "RunWriter",
    "Spectrum",
    "StateRun",
    "StoreLike",
    "WriterPart",
    "check_histogram",
    "check_layer_name",
    "check_write_options",
    "divide",
    "open_run",
    "store_identity",
    "writer_part",
]
