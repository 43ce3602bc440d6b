"""Pure functions of counts: entropy, efficiency and the artificial intelligence quotient."""

from tensorstate.metrics.classes import Overlap, information, information_bias
from tensorstate.metrics.efficiency import aIQ, aIQ_by_weight, efficiency, network_efficiency
from tensorstate.metrics.entropies import (
    check_entropy_options,
    entropy,
    entropy_of_spectrum,
)
from tensorstate.metrics.kernels import hamming_kernel, naswot_score
from tensorstate.metrics.neurons import firing_entropy, multi_information, neuron_table
from tensorstate.metrics.nsb import EntropyEstimate, nsb_entropy
from tensorstate.metrics.rarefaction import rarefaction, rarefaction_of_spectrum
from tensorstate.metrics.spectrum import spectrum
from tensorstate.metrics.support import SampleSupport, coverage_of_spectrum, sample_support

__all__ = [
    "EntropyEstimate",
    "Overlap",
    "SampleSupport",
    "aIQ",
    "aIQ_by_weight",
    "check_entropy_options",
    "coverage_of_spectrum",
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
    "nsb_entropy",
    "rarefaction",
    "rarefaction_of_spectrum",
    "sample_support",
    "spectrum",
]
