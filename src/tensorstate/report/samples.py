"""What figures read of a layer that is too large to be read as a whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate.report.drawing import plural
from tensorstate.storage import LayerStates

__all__ = ["SAMPLE_STATES", "is_live", "labels_of", "release", "sample_of", "sampled_words"]

SAMPLE_STATES = 1_000_000
"""Of layers with more states, figures that need the states themselves look at about so many."""


def is_live(layer: LayerStates) -> bool:
    """Whether the layer keeps counts only, and no states."""
    info = layer._layer_info()
    return info is not None and info.histogram == "live"


def labels_of(layer: LayerStates) -> ArrayLike | None:
    """Return the labels that the run of the layer has, if it has any."""
    return layer._run_labels()


def release(layer: LayerStates) -> None:
    """Give back the memory of a layer's histogram: those of all layers may be more than there is.

    A histogram that cannot be read from the run again is kept, so that nothing is counted twice.
    """
    layer._everything.release(layer._cache())


def sample_of(layer: LayerStates, most_states: int) -> NDArray[np.int64] | None:
    """Return the instances that are looked at; None for all of them."""
    return layer.spread_instances(most_states) if layer.state_count > most_states else None


def sampled_words(instances: NDArray[np.int64] | None) -> str:
    """Return what a reader is told of it: a sentence, or nothing."""
    if instances is None:
        return ""
    return f" It is drawn from {plural(len(instances), 'instance')} spread over the layer."
