import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from tensorstate.metrics import firing_entropy, multi_information, neuron_table


def test_entropies_are_those_of_scipy():
    fired = np.array([0, 1, 3, 500, 999, 1000])
    expected = [scipy_entropy([n, 1000 - n], base=2) for n in fired]
    np.testing.assert_allclose(firing_entropy(fired, 1000), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("fired", [1, 2**40 - 1])
def test_rare_events_keep_their_digits(fired):
    states = 2**40
    p = Fraction(1, states)
    # -(1 - p) log2(1 - p) by its series, in exact numbers.
    rest = (1 - p) * (p + p**2 / 2 + p**3 / 3)
    expected = 40 * float(p) + float(rest) / math.log(2)
    (found,) = firing_entropy(np.array([fired]), states)
    assert found == pytest.approx(expected, rel=1e-13)


def test_the_table_tells_dead_neurons_and_those_that_always_fire():
    table = neuron_table(np.array([0, 3, 4]), 4)
    assert list(table.columns) == ["fired", "rate", "entropy", "dead", "always_on"]
    assert table.index.name == "neuron"
    assert table["dead"].tolist() == [True, False, False]
    assert table["always_on"].tolist() == [False, False, True]
    assert table["fired"].dtype == np.int64


def test_multi_information_of_copies_is_what_the_copies_repeat():
    assert multi_information(np.array([8, 8, 8]), 16, entropy=1.0) == 2.0
    assert multi_information(np.array([8, 8]), 16, entropy=2.0) == 0.0
