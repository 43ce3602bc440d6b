"""What captures are called after the places where they are, and those that no pass reaches."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

__all__ = ["SUFFIXES", "moments_of", "unused_name", "warn_of_not_met"]

SUFFIXES = {"before": "_pre_states", "after": "_states"}
"""What a capture's name has behind that of its layer, by the moment when it records."""

_METHODS = {"before": ("before",), "after": ("after",), "both": ("before", "after")}


def moments_of(method: str) -> tuple[str, ...]:
    """Return when a method of `build_efficiency_model` records: before a layer, after it, or both.

    Raises
    ------
    ValueError
        If there is no such method.
    """
    if method not in _METHODS:
        choices = ", ".join(map(repr, _METHODS))
        raise ValueError(f"unknown method {method!r}: choose one of {choices}")
    return _METHODS[method]


def unused_name(name: str, taken: Collection[str]) -> str:
    """Return a name, with a number behind it if others have it already.

    Examples
    --------
    >>> unused_name("conv_1_states", ["conv_1_states", "conv_1_states_1"])
    'conv_1_states_2'
    """
    numbered = (f"{name}_{number}" for number in range(1, len(taken) + 2))
    return next(n for n in (name, *numbered) if n not in taken)


def warn_of_not_met(names: Sequence[str], cannot: str, stacklevel: int) -> None:
    """Warn of captures that a pass did not reach, if there are any.

    Parameters
    ----------
    names : sequence of str
        Of these captures.
    cannot : str
        Says what can never be reached.
    stacklevel : int
        As if the caller warned.
    """
    if names:
        warnings.warn(
            f"the pass through the model did not reach {', '.join(names)}: nothing is recorded "
            f"there, unless a later pass does; {cannot} cannot be reached",
            RuntimeWarning,
            stacklevel=stacklevel + 1,
        )
