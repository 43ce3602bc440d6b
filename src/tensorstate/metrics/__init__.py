"""Pure functions of counts: entropy, efficiency and the artificial intelligence quotient."""

from tensorstate.metrics.efficiency import aIQ, aIQ_by_weight, efficiency, network_efficiency
from tensorstate.metrics.entropies import (
    check_entropy_options,
    entropy,
    entropy_of_spectrum,
)
from tensorstate.metrics.nsb import EntropyEstimate, nsb_entropy
from tensorstate.metrics.rarefaction import rarefaction, rarefaction_of_spectrum
from tensorstate.metrics.spectrum import spectrum
from tensorstate.metrics.support import SampleSupport, sample_support

__all__ = [
    "EntropyEstimate",
    "SampleSupport",
    "aIQ",
    "aIQ_by_weight",
    "check_entropy_options",
    "efficiency",
    "entropy",
    "entropy_of_spectrum",
    "network_efficiency",
    "nsb_entropy",
    "rarefaction",
    "rarefaction_of_spectrum",
    "sample_support",
    "spectrum",
]
