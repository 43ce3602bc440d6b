"""How alike the firing patterns of single instances are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["hamming_kernel", "naswot_score"]


def hamming_kernel(packed: NDArray[np.uint8], units: int) -> NDArray[np.int64]:
    r"""For each two instances, of how many units both have the same to say.

    .. math::

        K_{ij} = N_A - d_H(c_i, c_j)

    where :math:`d_H` counts the units that fire in only one of the two.

    Parameters
    ----------
    packed : ndarray of uint8, shape (instances, bytes)
        Firing patterns, packed; unused bits are 0.
    units : int
        How many units a pattern has, N_A.

    Returns
    -------
    ndarray of int64, shape (instances, instances)

    References
    ----------
    J. Mellor, J. Turner, A. Storkey and E. J. Crowley, "Neural Architecture Search without
    Training", ICML (2021), arXiv 2006.04647, equation 2.

    Examples
    --------
    >>> hamming_kernel(np.array([[0b01], [0b11]], np.uint8), 2).tolist()
    [[2, 1], [1, 2]]
    """
    kernel = np.empty((len(packed), len(packed)), np.int64)
    for i, pattern in enumerate(packed):
        kernel[i] = units - np.bitwise_count(packed ^ pattern).sum(axis=1, dtype=np.int64)
    return kernel


def naswot_score(kernel: NDArray[np.int64]) -> float:
    """Return the logarithm of the determinant of a Hamming kernel.

    The more the patterns of instances differ, the higher it is; of untrained networks, those with
    a higher one tend to be better when trained.

    Parameters
    ----------
    kernel : ndarray, shape (instances, instances)
        What `hamming_kernel` returns.

    Returns
    -------
    float
        Natural logarithm; minus infinity if two instances have the same pattern.

    References
    ----------
    J. Mellor et al., ICML (2021), arXiv 2006.04647, equation 3.

    Examples
    --------
    >>> round(naswot_score(np.array([[2, 1], [1, 2]])), 4)
    1.0986
    """
    # A determinant of equal rows is 0, but rounding may make it a little more.
    if len(np.unique(kernel, axis=0)) < len(kernel):
        return -np.inf
    return float(np.linalg.slogdet(kernel.astype(np.float64))[1])
