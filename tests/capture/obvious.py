"""What captures are compared with: slow, and easy to see through."""

import numpy as np


def packed(x):
    """Return the packed states of activations, their neurons on the last axis: (rows, W) uint8."""
    x = np.asarray(x)
    return np.packbits(x > 0, axis=-1, bitorder="little").reshape(-1, -(-x.shape[-1] // 8))
