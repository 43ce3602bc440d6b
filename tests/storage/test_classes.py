"""What states of a layer tell about labels, against tables by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

import tensorstate as ts
from tensorstate.storage import open_run
from tests.storage.test_selection import instances_of, runs
from tests.strategies import reproducible


def table_of(layer, rows, labels, chosen):
    """Count states (columns) of labels (rows) with pandas."""
    of_rows = (
        np.repeat(np.arange(layer.instance_count), layer.positions)
        .reshape(layer.instance_count, -1)[chosen]
        .ravel()
    )
    numbers = np.arange(len(rows)).reshape(layer.instance_count, -1)[chosen].ravel()
    states = [rows[number].tobytes() for number in numbers]
    return pd.crosstab(np.asarray(labels)[of_rows], np.array(states, object))


@reproducible
@given(st.data())
def test_numbers_of_labels(data):
    layer, rows = data.draw(runs())
    n = layer.instance_count
    labels = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    chosen = data.draw(instances_of(layer))
    if not len(np.arange(n)[chosen]):
        with pytest.raises(ValueError, match="no instance is chosen"):
            layer.label_summary(labels, chosen)
        return
    table = table_of(layer, rows, labels, chosen)
    summary = layer.label_summary(labels, chosen)
    assert summary.index.tolist() == table.index.tolist()
    assert summary["states"].tolist() == table.sum(axis=1).tolist()
    assert summary["distinct"].tolist() == (table > 0).sum(axis=1).tolist()
    np.testing.assert_allclose(summary["entropy"], entropy(table, axis=1, base=2), atol=1e-9)
    only = (table > 0) & ((table > 0).sum() == 1)
    assert summary["specific"].tolist() == only.sum(axis=1).tolist()
    told = layer.label_information(labels, chosen)
    assert told["state_entropy"] == pytest.approx(entropy(table.sum(), base=2))
    assert told["label_entropy"] == pytest.approx(entropy(table.sum(axis=1), base=2))
    both = entropy(table.to_numpy().ravel(), base=2)
    assert told["information"] == pytest.approx(
        told["state_entropy"] + told["label_entropy"] - both, abs=1e-9
    )
    assert told["corrected"] == told["information"] - told["bias"]
    shares = table.div(table.sum(axis=1), axis=0)
    overlap = layer.label_overlap(labels, chosen)
    for label, p in shares.iterrows():
        for other, q in shares.iterrows():
            shared = overlap.loc[(label, other), "shared_mass"]
            assert shared == pytest.approx(np.minimum(p, q).sum(), abs=1e-12)


def test_a_reopened_run_with_names_for_labels(tmp_path):
    rng = np.random.default_rng(2)
    activations = rng.normal(size=(60, 4, 6))
    labels = np.array(["cat", "dog", "eel"])[np.arange(60) % 3]
    activations[labels == "dog", :, 0] = 1
    activations[labels != "dog", :, 0] = -1
    with ts.StateRecorder("layer", tmp_path / "run") as recorder:
        recorder.record(activations)
    layer = open_run(tmp_path / "run")["layer"]
    distances = layer.label_overlap(labels)["distance"].unstack()
    assert distances.loc["cat", "dog"] == distances.loc["dog", "eel"] == 1
    assert distances.loc["cat", "eel"] < 1
    assert np.diag(distances).tolist() == [0, 0, 0]
    summary = layer.label_summary(labels)
    assert summary.loc["dog", "specific_mass"] == pytest.approx(1)
    # To know the dogs is worth h(1/3) bits, and the noise adds to it what the sample is too small
    # to tell from a meaning.
    assert layer.label_information(labels)["information"] >= 0.918


def test_a_label_of_one_instance_and_labels_that_do_not_fit():
    recorder = ts.StateRecorder("layer")
    recorder.record(np.ones((3, 2)))
    assert recorder.label_summary([0, 0, 1])["states"].tolist() == [2, 1]
    assert recorder.label_information([0, 0, 1])["information"] == 0
    with pytest.raises(ValueError, match="2 labels do not fit 3 instances"):
        recorder.label_overlap([0, 1])


def test_two_runs_of_a_layer():
    rng = np.random.default_rng(9)
    layers = [ts.StateRecorder(name) for name in ("before", "after")]
    activations = [rng.normal(size=(40, 5, 4)), rng.normal(size=(30, 5, 4)) + 0.5]
    for layer, some in zip(layers, activations, strict=True):
        layer.record(some)
    table = pd.crosstab(
        np.repeat([0, 1], [200, 150]),
        np.concatenate([(some > 0).reshape(-1, 4) @ [1, 2, 4, 8] for some in activations]),
    )
    p, q = table.div(table.sum(axis=1), axis=0).to_numpy()
    found = layers[0].divergence(layers[1])
    assert found["shared_mass"] == pytest.approx(np.minimum(p, q).sum())
    assert found["distance"] == pytest.approx(jensenshannon(p, q, base=2))
    assert found["only_here"] == ((p > 0) & (q == 0)).sum()
    assert found["only_there"] == ((q > 0) & (p == 0)).sum()
    assert layers[0].divergence(layers[0])["distance"] == pytest.approx(0, abs=1e-7)
    wide = ts.StateRecorder("wide")
    wide.record(np.ones((2, 5)))
    with pytest.raises(ValueError, match="'before' has 4 neurons and 'wide' 5"):
        layers[0].divergence(wide)
