"""Runs on Zarr: written by one background thread, reopened without any framework."""

from tensorstate.storage.cache import HistogramCache
from tensorstate.storage.format import Codec, LayerInfo, StoreLike, check_layer_name, store_identity
from tensorstate.storage.layer import LayerStates
from tensorstate.storage.part import DamagedChunkError, PartReader
from tensorstate.storage.run import StateRun, open_run
from tensorstate.storage.writer import QUEUE_BYTES, RunWriter, check_write_options

__all__ = [
    "QUEUE_BYTES",
    "Codec",
    "DamagedChunkError",
    "HistogramCache",
    "LayerInfo",
    "LayerStates",
    "PartReader",
    "RunWriter",
    "StateRun",
    "StoreLike",
    "check_layer_name",
    "check_write_options",
    "open_run",
    "store_identity",
]
