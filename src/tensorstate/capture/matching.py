"""Which layers of a network a capture is attached to, by the names of classes or layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

__all__ = ["match_layers"]

_LayerT = TypeVar("_LayerT")


def match_layers(
    layers: Sequence[tuple[Collection[str], _LayerT]],
    attach_to: str | type | Iterable[str | type],
    exclude: str | type | Iterable[str | type] = (),
) -> list[_LayerT]:
    """Choose the layers whose class or name is among `attach_to` and not among `exclude`.

    Parameters
    ----------
    layers : sequence of (names, layer)
        The layers to choose from, each with all names that mean it: that of its class, its own.
    attach_to, exclude : name, class, or several of them
        Class names, classes or layer names.

    Returns
    -------
    list of layers
        In the given order.

    Raises
    ------
    TypeError
        If something other than names and classes is given.
    ValueError
        If a name to attach to or to exclude is none of the network's (names near it are
        suggested), or everything that matches is excluded.
    """
    wanted, unwanted = _names(attach_to, "attach_to"), _names(exclude, "exclude")
    if not wanted:
        raise ValueError("attach_to is empty: give it names of layers or of their classes")
    known = {name for names, _ in layers for name in names}
    for name, option in [(w, "attach_to") for w in wanted] + [(u, "exclude") for u in unwanted]:
        if name not in known:
            raise ValueError(
                f"{option}: no layer has the class or the name {name!r}{_near(name, known)}"
            )
    matched = [
        layer
        for names, layer in layers
        if wanted.intersection(names) and unwanted.isdisjoint(names)
    ]
    if not matched:
        raise ValueError(
            f"no layer is left to attach to: exclude={sorted(unwanted)} takes away all that "
            f"attach_to={sorted(wanted)} matches"
        )
    return matched


def _names(value: str | type | Iterable[str | type], option: str) -> set[str]:
    values = [value] if isinstance(value, (str, type)) else list(value)
    for one in values:
        if not isinstance(one, (str, type)):
            raise TypeError(f"{option} takes names or classes of layers, not {one!r}")
    return {one if isinstance(one, str) else one.__name__ for one in values}


def _near(name: str, known: set[str]) -> str:
    lowered = {candidate.lower(): candidate for candidate in sorted(known)}
    near = get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)
    if near:
        return "; did you mean " + " or ".join(repr(lowered[match]) for match in near) + "?"
    return "; the network has " + ", ".join(repr(candidate) for candidate in sorted(known)[:12])
