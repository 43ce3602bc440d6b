"""Neural efficiency and the artificial intelligence quotient of Schaub and Hotaling.

Formulas: N. Schaub and N. Hotaling, "Assessing Intelligence in Artificial Neural Networks",
arXiv 2006.02909 (2020), and Appl. Sci. 2023, 13(18), 10286.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, Protocol

import pandas as pd

__all__ = ["aIQ", "aIQ_by_weight", "efficiency", "network_efficiency"]


class _Layer(Protocol):
    name: str

    def efficiency(self) -> float: ...


class _Model(Protocol):
    @property
    def efficiency_layers(self) -> Iterable[_Layer]: ...


def efficiency(entropy_bits: float, max_entropy_bits: float) -> float:
    """Neural efficiency: the share of a layer's capacity that its states use.

    Parameters
    ----------
    entropy_bits : float
        Entropy of the layer's states, in bits.
    max_entropy_bits : float
        The most it could be, in bits: the number of neurons.

    Returns
    -------
    float
        ``entropy_bits / max_entropy_bits``, 0 to 1.

    Raises
    ------
    ValueError
        If the maximum is not positive.

    References
    ----------
    N. Schaub and N. Hotaling, arXiv 2006.02909 (2020), and Appl. Sci. 2023, 13(18), 10286.

    Examples
    --------
    >>> efficiency(5.0, 20)
    0.25
    """
    if not max_entropy_bits > 0:
        raise ValueError(f"the maximum entropy is positive, not {max_entropy_bits} bits")
    return entropy_bits / max_entropy_bits


def network_efficiency(
    source: _Model | Mapping[str, _Layer] | Iterable[_Layer] | Iterable[float],
) -> float:
    """Geometric mean of the efficiencies of a network's layers.

    Parameters
    ----------
    source : model, run or iterable of float
        A model from `build_efficiency_model`, an opened run, or layer efficiencies (0 to 1) or
        captures.

    Returns
    -------
    float
        Network efficiency, 0 to 1; 0 if one layer's efficiency is 0.

    Raises
    ------
    ValueError
        If there is no layer, a layer has no states, or an efficiency is not within 0 to 1.

    References
    ----------
    N. Schaub and N. Hotaling, arXiv 2006.02909 (2020), and Appl. Sci. 2023, 13(18), 10286.

    Examples
    --------
    >>> round(network_efficiency([0.25, 0.64]), 12)
    0.4
    """
    layers: Any = getattr(source, "efficiency_layers", source)
    if isinstance(layers, Mapping):
        layers = layers.values()
    values = [float(e.efficiency() if hasattr(e, "efficiency") else e) for e in layers]
    if not values:
        raise ValueError("a network efficiency needs at least one layer")
    for value in values:
        # A unit in the last place above 1 is rounding, not a mistake.
        if not 0 <= value <= 1 + 1e-12:
            raise ValueError(f"an efficiency lies within 0 to 1, but one is {value}")
    if min(values) == 0:
        return 0.0
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))


def aIQ(network_efficiency: float, accuracy: float, weight: float) -> float:  # noqa: N802
    """Artificial intelligence quotient: accuracy and network efficiency in one number.

    ``aIQ = (accuracy**weight * network_efficiency) ** (1 / (weight + 1))``

    Parameters
    ----------
    network_efficiency : float
        Network efficiency, 0 to 1.
    accuracy : float
        Accuracy of the network, 0 to 1.
    weight : float
        How much more accuracy counts than efficiency (the papers' beta), above 0.

    Returns
    -------
    float
        The quotient, 0 to 1.

    Raises
    ------
    ValueError
        If the weight is not positive and finite, or one of the others is not within 0 to 1.

    References
    ----------
    N. Schaub and N. Hotaling, arXiv 2006.02909 (2020), and Appl. Sci. 2023, 13(18), 10286.

    Examples
    --------
    >>> round(aIQ(0.25, 1.0, 1), 12)
    0.5
    """
    if not (weight > 0 and math.isfinite(weight)):
        raise ValueError(f"the weight of an aIQ is a finite number above 0, not {weight}")
    if not 0 <= accuracy <= 1:
        raise ValueError(f"an accuracy lies within 0 to 1, not {accuracy}")
    if not 0 <= network_efficiency <= 1 + 1e-12:
        raise ValueError(f"a network efficiency lies within 0 to 1, not {network_efficiency}")
    return float((accuracy**weight * network_efficiency) ** (1 / (weight + 1)))


def aIQ_by_weight(  # noqa: N802
    networks: Mapping[str, tuple[Any, float] | tuple[Any, float, int]],
    weights: Iterable[float] = (0.5, 1, 2, 4, 8),
) -> pd.DataFrame:
    """Lay the quotients of several networks side by side, for several weights of accuracy.

    Which network is the better one may depend on the weight: that shows here, beside what each
    is made of.

    Parameters
    ----------
    networks : mapping of str to (source, float) or (source, float, int)
        By the name of each network: its network efficiency, or whatever `network_efficiency` takes
        of it; its accuracy, 0 to 1; and how many parameters it has, which an opened run knows
        by itself.
    weights : iterable of float
        As for `aIQ`.

    Returns
    -------
    pandas.DataFrame
        A row for each `network` and `weight`, with the columns `aIQ`, `efficiency` (that of the
        network) and `accuracy`, all 0 to 1, and `parameters` (missing where that is not known).
        ``["aIQ"].unstack("network")`` makes a table of it, a row for each weight.

    Raises
    ------
    ValueError
        If a weight is not positive and finite, one of the others is not within 0 to 1, or a
        number of parameters is negative; or as for `network_efficiency`.

    References
    ----------
    N. Schaub and N. Hotaling, Appl. Sci. 2023, 13(18), 10286.

    Examples
    --------
    >>> networks = {"small": (0.4, 0.92, 5_000), "large": (0.2, 0.97, 80_000)}
    >>> found = aIQ_by_weight(networks, weights=[1, 30])
    >>> found.round(3)  # doctest: +NORMALIZE_WHITESPACE
                      aIQ  efficiency  accuracy  parameters
    network weight
    small   1.0     0.607         0.4      0.92        5000
            30.0    0.896         0.4      0.92        5000
    large   1.0     0.440         0.2      0.97       80000
            30.0    0.922         0.2      0.97       80000
    >>> found["aIQ"].unstack("network").idxmax(axis=1).tolist()
    ['small', 'large']
    """
    each = [float(weight) for weight in weights]
    rows = []
    for source, accuracy, *known in networks.values():
        share = network_efficiency([float(source)] if isinstance(source, Real) else source)
        parameters = known[0] if known else _parameters_of(source)
        if parameters is not None and parameters < 0:
            raise ValueError(f"a network has 0 parameters or more, not {parameters}")
        rows += [(aIQ(share, accuracy, weight), share, accuracy, parameters) for weight in each]
    index = pd.MultiIndex.from_product([list(networks), each], names=["network", "weight"])
    return pd.DataFrame(rows, columns=list(_QUOTIENT_TYPES), index=index).astype(_QUOTIENT_TYPES)


_QUOTIENT_TYPES = {
    "aIQ": "float64",
    "efficiency": "float64",
    "accuracy": "float64",
    "parameters": "Int64",  # which may be missing
}


def _parameters_of(source: object) -> int | None:
    """Return how many parameters a network has, if that is an attribute of a run."""
    found = getattr(source, "parameters", None)
    return found if isinstance(found, int) else None  # a PyTorch module has a method of that name
