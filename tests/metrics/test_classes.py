"""Information and overlap, against sums over whole tables and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from tensorstate.metrics import Overlap, information, information_bias
from tests.strategies import reproducible, seeds


@st.composite
def tables(draw):
    """Counts of each label (row) and state (column); every label has a state."""
    labels, states = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(seeds))
    table = rng.integers(0, 4, (labels, states)) * (rng.random((labels, states)) < 0.5)
    table[:, 0] += draw(st.integers(0, 1))
    table[np.arange(labels), rng.integers(0, states, labels)] += 1
    return table


def entries(table, rng):
    """The table as entries, in several groups of states."""
    groups = rng.integers(0, 3, table.shape[1])
    for group in range(3):
        labels, states = np.nonzero(table[:, groups == group])
        yield states, labels, table[:, groups == group][labels, states]


@reproducible
@given(table=tables(), seed=seeds)
def test_overlap_of_all_pairs(table, seed):
    totals = table.sum(axis=1)
    overlap = Overlap.of(totals.tolist(), entries(table, np.random.default_rng(seed)))
    shares = table / totals[:, None]
    only = (table > 0) & ((table > 0).sum(axis=0) == 1)
    np.testing.assert_array_equal(overlap.specific, only.sum(axis=1))
    np.testing.assert_allclose(overlap.specific_mass, (shares * only).sum(axis=1), atol=1e-12)
    for i, p in enumerate(shares):
        for j, q in enumerate(shares):
            assert overlap.shared[i, j] == pytest.approx(np.minimum(p, q).sum(), abs=1e-12)
            # A root takes digits of what is nearly 0.
            expected = jensenshannon(p, q, base=2) ** 2
            assert overlap.distances()[i, j] ** 2 == pytest.approx(expected, abs=1e-12)


@reproducible
@given(table=tables())
def test_information_is_that_of_the_joint_table(table):
    joint = table / table.sum()
    states, labels = joint.sum(axis=0), joint.sum(axis=1)
    expected = entropy(states, base=2) + entropy(labels, base=2) - entropy(joint.ravel(), base=2)
    found = information(
        entropy(states, base=2), [entropy(row, base=2) for row in table], table.sum(axis=1).tolist()
    )
    assert found == pytest.approx(expected, abs=1e-12)
    assert -1e-12 <= found <= entropy(labels, base=2) + 1e-12


def test_the_bias_is_what_labels_without_meaning_seem_to_tell():
    rng = np.random.default_rng(7)
    found, told = [], []
    for _ in range(200):
        table = np.stack([np.bincount(rng.integers(0, 8, 500), minlength=8) for _ in range(4)])
        found.append(
            information(
                entropy(table.sum(axis=0), base=2),
                [entropy(row, base=2) for row in table],
                [500] * 4,
            )
        )
        told.append(information_bias(8, [8] * 4, 2000))
    # Truly there is none; the standard error of the mean is 3 % of it.
    assert np.mean(found) == pytest.approx(np.mean(told), rel=0.1)
