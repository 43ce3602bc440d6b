"""Which layers were committed together, so that one that is gone is missed.

The attribute ``layers`` has their names. It is stored with the instances that they have committed,
in the same write: in the run by a writer that writes the run alone, and in every part of a writer
beside others. Runs of versions before there was one are read without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from reprlib import repr as brief
from typing import Any

from tensorstate.nodes import DamagedMetadataError

__all__ = ["layers_attribute", "listed_layers", "missing_layer"]

_NAME = "layers"


def layers_attribute(names: Iterable[str]) -> dict[str, Any]:
    """Return the attribute that `listed_layers` reads.

    Examples
    --------
    >>> layers_attribute({"conv_2", "conv_1"})
    {'layers': ['conv_1', 'conv_2']}
    """
    return {_NAME: sorted(names)}


def listed_layers(attributes: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return the layers that were committed together; none if that is not told.

    Raises
    ------
    ValueError
        If the attribute holds no names.
    """
    names: Any = attributes.get(_NAME, [])
    if not isinstance(names, list) or not all(
        isinstance(name, str) and name and "/" not in name and not name.startswith((".", "__"))
        for name in names
    ):
        raise DamagedMetadataError(
            f"{where} says that {brief(names)} are its layers: its metadata is damaged"
        )
    return tuple(names)


def missing_layer(where: str, name: str) -> DamagedMetadataError:
    """Return the error for a layer that is not there, though instances of it were committed."""
    return DamagedMetadataError(
        f"{where} was committed with the layer {name!r}, which is not there any more: "
        "put it back from a copy, or write the run anew"
    )
