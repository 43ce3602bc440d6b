"""What was captured of a layer, and how: the attributes of its group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from reprlib import repr as brief
from typing import Any, Literal, get_args

from tensorstate.bits import packed_width
from tensorstate.nodes import (
    MOST_CHUNK_BYTES,
    MOST_LENGTH,
    DamagedMetadataError,
    is_whole_number,
)
from tensorstate.storage.parameters import Parameters

__all__ = ["HISTOGRAMS", "Histogram", "LayerInfo", "check_histogram"]

Histogram = Literal["stored", "live"]
HISTOGRAMS: tuple[Histogram, ...] = get_args(Histogram)


@dataclass(frozen=True)
class LayerInfo:
    """What was captured of one layer, and how; the attributes of its group.

    Attributes
    ----------
    neurons : int
        Neurons in a state (the length of the channel axis).
    positions : int or None
        States of one instance; None if instances differ in them.
    threshold : float, or tuple of a float for each neuron
        A neuron fires where its activation is strictly greater.
    channel_axis : int
        Axis of the activations that holds the neurons.
    source_layer : str
        Name or path of the layer in the network.
    index : int
        Place among the captures of the run, in the order in which data meets them.
    histogram : {"stored", "live"}
        Whether states are stored, or counted while they are captured and dropped.
    parameters : Parameters or None
        How many parameters the layer in the network has; None if that is not known.
    """

    neurons: int
    positions: int | None
    threshold: float | tuple[float, ...] = 0.0
    channel_axis: int = -1
    source_layer: str = ""
    index: int = 0
    histogram: Histogram = "stored"
    parameters: Parameters | None = field(default=None, compare=False)  # no part of the states

    @property
    def width(self) -> int:
        """Bytes of one packed state."""
        return packed_width(self.neurons)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes as JSON types."""
        attributes = asdict(self)
        if self.parameters is None:
            del attributes["parameters"]
        return attributes

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], where: str) -> LayerInfo:
        """Read the attributes of a layer's group; `where` names it in an error.

        Raises
        ------
        DamagedMetadataError
            If they are not what a layer may have.
        """
        try:
            # Layers of earlier versions do not say that their states are stored.
            known = {"histogram": "stored", "parameters": None, **attributes}
            values = {one.name: known[one.name] for one in fields(cls)}
        except KeyError as error:
            raise DamagedMetadataError(
                f"{where} has no attribute {error}: it is not a layer of a run, or it is damaged"
            ) from None
        if isinstance(values["threshold"], list):
            values["threshold"] = tuple(values["threshold"])
        check_histogram(values["histogram"], f"{where} has an ")
        values["parameters"] = Parameters.from_attributes(known, where)
        info = cls(**values)
        for name, sound in info._are_sound().items():
            if not sound:
                raise DamagedMetadataError(
                    f"{where} has {brief(values[name])} for {name}, which makes no sense: "
                    "its metadata is damaged"
                )
        return info

    def _are_sound(self) -> dict[str, bool]:
        """Return of each attribute whether it can be one."""
        threshold = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)
        return {
            # No row is read whose chunk would be refused.
            "neurons": is_whole_number(self.neurons, 1) and self.width <= MOST_CHUNK_BYTES,
            "positions": self.positions is None
            or (is_whole_number(self.positions, 1) and self.positions <= MOST_LENGTH),
            "threshold": _are_numbers(threshold)
            and not (isinstance(self.threshold, tuple) and len(threshold) != self.neurons),
            "channel_axis": isinstance(self.channel_axis, int),
            "source_layer": isinstance(self.source_layer, str),
            "index": isinstance(self.index, int),
        }

    def check_goes_on(self, stored: LayerInfo, where: str) -> None:
        """Raise ValueError unless this captures the same states as what is stored."""
        if stored.histogram != self.histogram:
            raise ValueError(
                f"{where} was recorded with histogram={stored.histogram!r}, but is to go on with "
                f"histogram={self.histogram!r}: give the same option, or write it anew"
            )
        # The order of the captures may change between two programs without changing the states.
        if replace(stored, index=self.index) != self:
            raise ValueError(
                f"{where} was recorded as {stored}, but is to go on as {self}: "
                "states of both kinds cannot be mixed in one run"
            )
        if self.parameters is not None:
            self.parameters.check_goes_on(stored.parameters, where)


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def check_histogram(histogram: str, context: str = "") -> None:
    """Raise ValueError unless this is a way to keep states; `context` begins the message."""
    if not isinstance(histogram, str) or histogram not in HISTOGRAMS:
        choices = ", ".join(map(repr, HISTOGRAMS))
        raise ValueError(f"{context}unknown histogram {histogram!r}: choose one of {choices}")
