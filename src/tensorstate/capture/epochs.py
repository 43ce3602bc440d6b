"""What a training logs of its network's efficiency; knows no framework."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tensorstate.metrics import aIQ, network_efficiency
from tensorstate.storage import LayerStates

__all__ = ["EpochLog", "Measuring"]

NETWORK, QUOTIENT, LAYER = "network_efficiency", "aIQ", "efficiency/"
_ACCURACIES = (
    "accuracy",
    "acc",
    "sparse_categorical_accuracy",
    "categorical_accuracy",
    "binary_accuracy",
)


class Measuring(Protocol):
    """A network in training that can be measured in between its epochs."""

    def measured(self) -> AbstractContextManager[Sequence[LayerStates]]:
        """Run the data through the network; give the captures, and empty them at the end."""

    def close(self) -> None:
        """Take the captures away."""


class EpochLog:
    """Turns captures into the values of an epoch's logs, in every n-th epoch of a training.

    Every epoch gets the same names, as loggers with columns need it: NaN where nothing was
    measured. The first epoch is always measured, so that whatever looks for the best value begins
    with a number.

    Parameters
    ----------
    every : int
        Epochs from one measurement to the next.
    accuracy : str or None
        Name of the accuracy in the logs; "auto" finds it, None leaves aIQ out.
    weight : float
        How much more accuracy counts than efficiency.

    Raises
    ------
    TypeError
        If `every` is not an integer, or `accuracy` not a name.
    ValueError
        If `every` or the weight is not positive.
    """

    def __init__(self, every: int, accuracy: str | None, weight: float) -> None:
        if not isinstance(every, int) or isinstance(every, bool):
            raise TypeError(f"every is a number of epochs, not {every!r}")
        if every < 1:
            raise ValueError(f"every is at least 1 epoch, not {every}")
        if accuracy is not None and not isinstance(accuracy, str):
            raise TypeError(f"accuracy is a name in the logs, 'auto' or None, not {accuracy!r}")
        aIQ(1.0, 1.0, weight)  # refuses a weight that makes no sense
        self._every = every
        self._accuracy = accuracy
        self._weight = weight
        self.begin()

    def begin(self) -> None:
        """Begin a training: the next epoch is its first."""
        self._epochs = 0
        self._goes_on = False
        self._names: list[str] = []
        self._source: str | None = None
        self._source_is_known = False

    def state(self) -> dict[str, Any]:
        """Return what a training that is resumed goes on with, as plain numbers and names."""
        return {"epochs": self._epochs, "accuracy": self._source}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state` gave, after `begin`."""
        self._epochs = state["epochs"]
        self._source = state["accuracy"]
        self._source_is_known = self._epochs > 0

    def count_epoch(self) -> bool:
        """Count an epoch that has ended, and tell whether it is to be measured."""
        is_due = not self._goes_on or self._epochs % self._every == 0
        self._epochs += 1
        self._goes_on = True
        return is_due

    def measured(
        self, captures: Sequence[LayerStates], logs: Mapping[str, Any]
    ) -> dict[str, float]:
        """Return what the captures say, to be added to the epoch's logs.

        Parameters
        ----------
        captures : sequence of LayerStates
            The captures, with the states of this epoch.
        logs : mapping of str to float
            What the epoch has logged so far.

        Raises
        ------
        ValueError
            If a capture has no states, or the accuracy is not in the logs or not within 0 to 1.
        """
        efficiencies = [capture.efficiency() for capture in captures]
        values = dict(zip(_names([c.name for c in captures]), efficiencies, strict=True))
        values[NETWORK] = network_efficiency(efficiencies)
        if not self._source_is_known:
            self._source = self._find_accuracy(logs)
            self._source_is_known = True
        if self._source is not None:
            values[QUOTIENT] = self._quotient(values[NETWORK], logs)
        self._names = list(values)
        return values

    def not_measured(self) -> dict[str, float]:
        """Return NaN for everything that is measured in other epochs."""
        return dict.fromkeys(self._names, math.nan)

    def _find_accuracy(self, logs: Mapping[str, Any]) -> str | None:
        if self._accuracy == "auto":
            names = [prefix + name for prefix in ("val_", "") for name in _ACCURACIES]
            return next((name for name in names if name in logs), None)
        # A network may be validated less often than it is measured.
        if self._accuracy and not {self._accuracy, self._accuracy.removeprefix("val_")} & {*logs}:
            raise ValueError(
                f"aIQ needs the accuracy {self._accuracy!r}, but the epoch logged "
                f"{', '.join(logs) or 'nothing'}: let the training log it (in Keras, compile the "
                "model with it as a metric), or choose another one with accuracy=..., or None for "
                "no aIQ"
            )
        return self._accuracy

    def _quotient(self, network: float, logs: Mapping[str, Any]) -> float:
        accuracy = float(logs.get(str(self._source), math.nan))
        if math.isnan(accuracy):
            return math.nan
        if not 0 <= accuracy <= 1:
            raise ValueError(
                f"aIQ needs an accuracy within 0 to 1, but {self._source!r} of the epoch is "
                f"{accuracy}: choose another one with accuracy=..., or None for no aIQ"
            )
        return aIQ(network, accuracy, self._weight)


def _names(captures: Iterable[str]) -> list[str]:
    """Name values after the layers, or after their captures if layers would share a name."""
    captures = list(captures)
    layers = [name.removesuffix("_states") for name in captures]
    return [LAYER + name for name in (layers if len({*layers}) == len(layers) else captures)]
