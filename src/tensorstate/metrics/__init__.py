"""Pure functions of counts: entropy, efficiency and the artificial intelligence quotient."""

from tensorstate.metrics.classes import Overlap, information, information_bias
from tensorstate.metrics.efficiency import aIQ, efficiency, network_efficiency
from tensorstate.metrics.entropies import (
    check_entropy_options,
    entropy,
    entropy_of_spectrum,
    spectrum,
)
from tensorstate.metrics.kernels import hamming_kernel, naswot_score
from tensorstate.metrics.neurons import firing_entropy, multi_information, neuron_table

__all__ = [
    "Overlap",
    "aIQ",
    "check_entropy_options",
    "efficiency",
    "entropy",
    "entropy_of_spectrum",
    "firing_entropy",
    "hamming_kernel",
    "information",
    "information_bias",
    "multi_information",
    "naswot_score",
    "network_efficiency",
    "neuron_table",
    "spectrum",
]
