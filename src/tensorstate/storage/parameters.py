"""How many parameters a network and its layers have: stored beside what their states tell."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from reprlib import repr as brief
from typing import TYPE_CHECKING, Any

import zarr

from tensorstate.nodes import DamagedMetadataError, update_attributes

if TYPE_CHECKING:
    from tensorstate.storage.layer_info import LayerInfo

__all__ = ["CountedParameters", "Parameters", "store_if_missing"]

_ATTRIBUTE = "parameters"


@dataclass(frozen=True)
class Parameters:
    """How many parameters a layer or a network has: numbers in its weights, not weights.

    Attributes
    ----------
    total : int
        All of them.
    trainable : int
        Those that a training may change.
    """

    total: int
    trainable: int

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], where: str) -> Parameters | None:
        """Read the attribute of a group; None if it has none. `where` names it in an error."""
        stored = attributes.get(_ATTRIBUTE)
        if stored is None:
            return None
        known = stored if isinstance(stored, Mapping) else {}
        total, trainable = known.get("total"), known.get("trainable")
        if type(total) is not int or type(trainable) is not int or not 0 <= trainable <= total:
            raise DamagedMetadataError(
                f"{where} has {brief(stored)} as its parameters: its metadata is damaged"
            )
        return cls(total, trainable)

    def check_goes_on(self, stored: Parameters | None, where: str) -> None:
        """Raise ValueError if what is stored is of another network; what trains may differ."""
        if stored is not None and stored.total != self.total:
            raise ValueError(
                f"{where} was recorded with {stored.total} parameters, but is to go on with "
                f"{self.total}: give the same network, or write it anew"
            )

    def attributes(self) -> dict[str, Any]:
        """Return what `from_attributes` reads."""
        return {_ATTRIBUTE: asdict(self)}


def store_if_missing(group: zarr.Group, parameters: Parameters | None) -> None:
    """Store the number of parameters, if it is known, in a group that does not have it yet."""
    if parameters is not None and group.attrs.get(_ATTRIBUTE) is None:
        update_attributes(group, parameters.attributes())


class CountedParameters:
    """How large a layer is: the part of `LayerStates` that tells it."""

    @abstractmethod
    def _layer_info(self) -> LayerInfo | None:
        """Return what is captured, or None as long as nothing is known about the layer."""

    @property
    def parameter_count(self) -> int | None:
        """Parameters of the layer in the network, one that it shares with others included.

        As its framework counts them: of Keras all weights (also a normalisation's statistics), of
        PyTorch ``parameters()``. None where that is not known: of a `StateRecorder`, of captures
        placed by hand, of runs that older versions wrote, and of what has no weights yet when its
        first states come.
        """
        found = self._stored_parameters()
        return found.total if found else None

    @property
    def trainable_parameter_count(self) -> int | None:
        """Those of its parameters that a training may change; None if that is not known."""
        found = self._stored_parameters()
        return found.trainable if found else None

    def _stored_parameters(self) -> Parameters | None:
        info = self._layer_info()
        return info.parameters if info else None
