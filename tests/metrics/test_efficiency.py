"""Efficiency, network efficiency and aIQ, and what they refuse."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorstate.metrics import aIQ, aIQ_by_weight, efficiency, network_efficiency

shares = st.floats(0, 1)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=20))
def test_network_efficiency_is_the_geometric_mean(values):
    expected = math.prod(values) ** (1 / len(values))
    assert network_efficiency(values) == pytest.approx(expected, rel=1e-9)


def test_network_efficiency_of_whatever_has_layers():
    layers = [SimpleNamespace(efficiency=lambda: 0.25), SimpleNamespace(efficiency=lambda: 0.64)]
    assert network_efficiency(SimpleNamespace(efficiency_layers=layers)) == pytest.approx(0.4)
    assert network_efficiency(dict(enumerate(layers))) == pytest.approx(0.4)
    assert network_efficiency(layers) == pytest.approx(0.4)
    assert network_efficiency(iter([0.25, 0.64])) == pytest.approx(0.4)


def test_a_dead_layer_makes_the_network_efficiency_zero():
    assert network_efficiency([0.0, 0.5]) == 0.0


def test_a_hundred_narrow_layers_do_not_underflow():
    assert network_efficiency([1e-5] * 100) == pytest.approx(1e-5)


@settings(deadline=None, derandomize=True)
@given(shares, shares, st.floats(0.01, 100))
def test_aiq_is_the_formula(network, accuracy, weight):
    expected = (accuracy**weight * network) ** (1 / (weight + 1))
    assert aIQ(network, accuracy, weight) == expected
    assert 0 <= expected <= 1


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf])
def test_weights_that_make_no_sense(weight):
    with pytest.raises(ValueError, match="weight of an aIQ"):
        aIQ(0.5, 0.5, weight)


@pytest.mark.parametrize("accuracy", [-0.1, 1.1, 94.5, math.nan])
def test_accuracies_that_are_no_share(accuracy):
    with pytest.raises(ValueError, match="accuracy lies within 0 to 1"):
        aIQ(0.5, accuracy, 2)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_efficiencies_that_are_no_share(value):
    with pytest.raises(ValueError, match="within 0 to 1"):
        aIQ(value, 0.5, 2)
    with pytest.raises(ValueError, match="within 0 to 1"):
        network_efficiency([0.5, value])


def test_no_layers():
    with pytest.raises(ValueError, match="at least one layer"):
        network_efficiency([])


def test_efficiency_of_nothing():
    with pytest.raises(ValueError, match="maximum entropy"):
        efficiency(1.0, 0)


def test_quotients_by_weight():
    table = aIQ_by_weight({"a": (0.4, 0.92), "b": (0.2, 0.97)}, weights=[1, 2.5, 30])
    assert table.index.names == ["network", "weight"]
    assert list(table.columns) == ["aIQ", "efficiency", "accuracy", "parameters"]
    for weight in (1, 2.5, 30):
        assert table.loc[("a", weight), "aIQ"] == aIQ(0.4, 0.92, weight)
        assert table.loc[("b", weight), "aIQ"] == aIQ(0.2, 0.97, weight)
    assert table["aIQ"].unstack("network").idxmax(axis=1).tolist() == ["a", "a", "b"]
    assert table.loc["b", "efficiency"].tolist() == pytest.approx([0.2] * 3)
    assert table["parameters"].isna().all()
    with pytest.raises(ValueError, match="weight of an aIQ"):
        aIQ_by_weight({"a": (0.4, 0.92)}, weights=[0])


def test_parameters_stand_beside_the_quotients():
    layers = [SimpleNamespace(efficiency=lambda: 0.25), SimpleNamespace(efficiency=lambda: 0.64)]
    model = SimpleNamespace(efficiency_layers=layers, parameters=lambda: iter(()))
    networks = {"a": (0.4, 0.92, 50), "model": (model, 0.9), "told": (model, 0.9, 2**40)}
    table = aIQ_by_weight(networks, weights=[2])
    assert table["parameters"].fillna(-1).tolist() == [50, -1, 2**40]
    assert table["parameters"].dtype == "Int64"
    assert table.loc[("model", 2), "aIQ"] == aIQ(network_efficiency(layers), 0.9, 2)
    with pytest.raises(ValueError, match="0 parameters or more, not -1"):
        aIQ_by_weight({"a": (0.4, 0.92, -1)})
    with pytest.raises(ValueError, match="accuracy lies within 0 to 1, not 92"):
        aIQ_by_weight({"a": (0.4, 92)})
