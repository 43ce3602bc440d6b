"""How much of a neural network's capacity is really used.

Records which neurons of a layer fire, counts the distinct states exactly and out of core, and
turns the counts into entropy, neural efficiency and aIQ. Importing this package imports no
deep-learning framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tensorstate._version import __version__

if TYPE_CHECKING:
    from tensorstate.bits import compress_states, decompress_states
    from tensorstate.capture import (
        StateRecorder,
        build_efficiency_model,
        remove_state_layers,
        reset_efficiency_model,
    )
    from tensorstate.counting import StateHistogram, count_states, plan_count
    from tensorstate.metrics import (
        aIQ,
        aIQ_by_weight,
        entropy,
        network_efficiency,
        nsb_entropy,
        rarefaction,
    )
    from tensorstate.storage import StateRun, open_run

# Where names come from when they are first used: to import all of it takes most of a second.
_MODULES = {
    "StateHistogram": "tensorstate.counting",
    "StateRecorder": "tensorstate.capture",
    "StateRun": "tensorstate.storage",
    "aIQ": "tensorstate.metrics",
    "aIQ_by_weight": "tensorstate.metrics",
    "build_efficiency_model": "tensorstate.capture",
    "compress_states": "tensorstate.bits",
    "count_states": "tensorstate.counting",
    "decompress_states": "tensorstate.bits",
    "entropy": "tensorstate.metrics",
    "network_efficiency": "tensorstate.metrics",
    "nsb_entropy": "tensorstate.metrics",
    "open_run": "tensorstate.storage",
    "plan_count": "tensorstate.counting",
    "rarefaction": "tensorstate.metrics",
    "remove_state_layers": "tensorstate.capture",
    "reset_efficiency_model": "tensorstate.capture",
}

# What needs a framework is no part of a star import.
_WITH_FRAMEWORK = {
    "EfficiencyCallback": "tensorstate.capture.callback",
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
    "aIQ_by_weight",
    "build_efficiency_model",
    "compress_states",
    "count_states",
    "decompress_states",
    "entropy",
    "network_efficiency",
    "nsb_entropy",
    "open_run",
    "plan_count",
    "rarefaction",
    "remove_state_layers",
    "reset_efficiency_model",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name) or _WITH_FRAMEWORK.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_WITH_FRAMEWORK})
