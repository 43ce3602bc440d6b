"""A layer of a reopened run."""

from __future__ import annotations

from collections.abc import Sequence

from tensorstate.storage.cache import HistogramCache
from tensorstate.storage.format import LayerInfo
from tensorstate.storage.layer import LayerStates
from tensorstate.storage.part import PartReader

__all__ = ["StoredLayer"]


class StoredLayer(LayerStates):
    """A layer of a reopened run.

    Parameters
    ----------
    name : str
        Name of the capture.
    info : LayerInfo
        What was captured.
    parts : sequence of PartReader
        Its parts, in the order of their instances.
    cache : HistogramCache
        What was counted before.
    """

    def __init__(
        self, name: str, info: LayerInfo, parts: Sequence[PartReader], cache: HistogramCache
    ) -> None:
        self.name = name
        self._info = info
        self._stored_parts = tuple(parts)
        self._stored_counts = cache

    capture_on = False

    def _layer_info(self) -> LayerInfo:
        return self._info

    def _parts(self) -> Sequence[PartReader]:
        return self._stored_parts

    def _cache(self) -> HistogramCache:
        return self._stored_counts

    def _nothing_yet(self) -> str:
        return f"layer {self.name!r} of the run holds no committed states"
