"""How much of a neural network's capacity is really used.

Records which neurons of a layer fire, counts the distinct states exactly and out of core, and
turns the counts into entropy, neural efficiency and aIQ. Importing this package imports no
deep-learning framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tensorstate._version import __version__
from tensorstate.bits import compress_states, decompress_states
from tensorstate.capture import (
    StateRecorder,
    build_efficiency_model,
    remove_state_layers,
    reset_efficiency_model,
)
from tensorstate.capture.callback import EfficiencyCallback
from tensorstate.counting import StateHistogram, count_states, plan_count
from tensorstate.metrics import aIQ, entropy, network_efficiency
from tensorstate.storage import StateRun, open_run

# What needs a framework is imported when it is used, and so is no part of a star import.
_LAZY = {
    "StateCapture": "tensorstate.capture.keras",
    "StateCaptureHook": "tensorstate.capture.torch",
}

__all__ = [
    "EfficiencyCallback",
    "StateHistogram",
    "StateRecorder",
    "StateRun",
    "__version__",
    "aIQ",
    "build_efficiency_model",
    "compress_states",
    "count_states",
    "decompress_states",
    "entropy",
    "network_efficiency",
    "open_run",
    "plan_count",
    "remove_state_layers",
    "reset_efficiency_model",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY})
