"""Figures of networks, labels and comparisons, against the numbers that they draw."""

import numpy as np
import pandas as pd
import pytest
from zarr.storage import MemoryStore

import tensorstate as ts
from tensorstate.report.aiq_figure import WEIGHTS, aiq
from tensorstate.report.comparison_figures import distances, efficiencies
from tensorstate.report.label_figures import MOST_LABELS, label_information, label_overlap
from tensorstate.report.network_figures import efficiency

HOSTILE = '<script>alert(1)</script> "quoted" $$x^2$$ \\(y\\) \U0001f600 ' + "x" * 450


def run_of(store, names=("conv", "dense"), seed=0, labels=None, instances=60):
    """Record a run with a layer of each name; those that are named "empty" stay empty."""
    rng = np.random.default_rng(seed)
    recorders = [ts.StateRecorder(n, store, variable_positions=n == "empty") for n in names]
    for number, recorder in enumerate(recorders):
        some = rng.normal(size=(instances, 3, 5 + number % 3))
        recorder.record(some, **({"lengths": [0] * instances} if recorder.name == "empty" else {}))
    recorders[0].close()
    run = ts.open_run(store)
    if labels is not None:
        run.set_labels(labels)
    return run


def test_efficiencies_along_a_network(tmp_path):
    run = run_of(tmp_path / "run")
    figure = efficiency(run)
    summary = run.summary()
    assert figure.data["layer"].tolist() == ["conv", "dense"]
    np.testing.assert_allclose(figure.data["efficiency (%)"], 100 * summary["efficiency"])
    np.testing.assert_allclose(figure.data["ceiling (%)"], 100 * summary["ceiling"])
    assert figure.data["note"].tolist() == summary["flag"].tolist()
    assert f"{100 * ts.network_efficiency(run):.3g} %" in figure.title
    best = summary["efficiency"].idxmax()
    assert f"to {100 * summary['efficiency'].max():.3g} % ({best})" in figure.title


def test_a_network_of_one_layer_and_one_of_two_hundred(tmp_path):
    one = run_of(tmp_path / "one", ["only"])
    assert "only uses" in efficiency(one).title
    many = run_of(MemoryStore(), [f"layer_{n}" for n in range(200)], instances=4)
    figure = efficiency(many)
    assert figure.data["number"].tolist() == [*range(1, 201)]
    # So many names cannot be read on an axis; a pointer shows them.
    assert figure.plot.xaxis[0].major_label_overrides == {}
    assert efficiency(one).plot.xaxis[0].major_label_overrides == {1: "only"}


def test_layers_without_states_have_no_bar(tmp_path):
    run = run_of(tmp_path / "run", ["conv", "empty", "dense"])
    assert run["empty"].state_count == 0
    figure = efficiency(run)
    assert figure.data["efficiency (%)"].isna().tolist() == [False, True, False]
    assert "Network efficiency" not in figure.title
    assert efficiency(run_of(tmp_path / "none", ["empty"])) is None


def test_a_note_says_how_many_layers_their_sample_limits(tmp_path):
    rng = np.random.default_rng(0)
    run = ts.StateRecorder("wide"), ts.StateRecorder("narrow")
    run[0].record(rng.normal(size=(50, 40)))
    run[1].record(rng.normal(size=(5000, 3)))
    layers = {layer.name: layer for layer in run}
    assert efficiency(layers).doubt.startswith("1 layer of 2 is limited by the sample")
    assert "here none does" in efficiency({"narrow": run[1]}).doubt


def test_overlap_of_labels(tmp_path):
    labels = np.array(["cat", "dog", "cow"])[np.arange(60) % 3]
    layer = run_of(tmp_path / "run", labels=labels)["conv"]
    figure = label_overlap(layer)
    expected = layer.label_overlap()
    for label, other, distance, shared in figure.data.itertuples(index=False):
        assert distance == expected.loc[(label, other), "distance"]
        assert shared == 100 * expected.loc[(label, other), "shared_mass"]
    assert len(figure.data) == 9
    off = expected[[a != b for a, b in expected.index]]
    assert " and ".join(off["distance"].idxmin()) in figure.title
    # A sample is said to be one.
    sampled = label_overlap(layer, most_states=90)
    chosen = layer.spread_instances(90)
    expected = layer.label_overlap(instances=chosen)
    assert sampled.data["shared mass (%)"].tolist() == (100 * expected["shared_mass"]).tolist()
    assert f"{len(chosen)} instances spread" in sampled.doubt


def test_of_many_labels_those_that_are_like_another_one():
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(40), 3)
    centres = rng.normal(size=(40, 1, 12)) * 9
    centres[31] = centres[7]
    layer = ts.StateRecorder("layer")
    layer.record(np.repeat(centres, 3, axis=0) + rng.normal(size=(120, 1, 12)))
    layer._run_labels = lambda: labels
    figure = label_overlap(layer)
    assert len(figure.data) == MOST_LABELS**2
    assert {"7", "31"} <= set(figure.data["label"])
    assert "7 and 31" in figure.title
    assert f"{MOST_LABELS} by {MOST_LABELS} labels of 40" in figure.alternative


def test_information_about_labels(tmp_path):
    run = run_of(tmp_path / "run", labels=np.arange(60) % 3)
    figure = label_information(run)
    for number, name, told, corrected, most, note in figure.data.itertuples(index=False):
        expected = run[name].label_information()
        assert (told, corrected) == (expected["information"], expected["corrected"])
        assert most == expected["label_entropy"]
        assert note == run.summary().loc[name, "flag"]
        assert list(run)[number - 1] == name
    sampled = label_information(run, most_states=60)
    assert "about 60 states" in sampled.doubt
    assert not sampled.data.equals(figure.data)


def test_no_labels_one_label_live_and_empty(tmp_path):
    run = run_of(tmp_path / "run")
    assert label_overlap(run["conv"]) is None
    assert label_information(run) is None
    run.set_labels([1] * 60)
    assert label_overlap(run["conv"]) is None
    live = ts.StateRecorder("live", tmp_path / "live", histogram="live")
    live.record(np.ones((5, 2)))
    live.close()
    live = ts.open_run(tmp_path / "live")
    live.set_labels([1, 2, 1, 2, 1])
    assert label_overlap(live["live"]) is None
    assert label_information(live) is None
    empty = run_of(tmp_path / "empty", ["conv", "empty"], labels=np.arange(60) % 2)
    assert label_overlap(empty["empty"]) is None
    assert label_information(empty).data["number"].tolist() == [1]


def test_aiq_against_weight():
    networks = {"small": (0.4, 0.92), "large": (0.2, 0.97)}
    figure = aiq(networks)
    for name, weight, quotient, share, accuracy in figure.data.itertuples(index=False):
        assert (share / 100, accuracy / 100) == pytest.approx(networks[name])
        assert quotient == pytest.approx(100 * ts.aIQ(*networks[name], weight))
    assert len(figure.data) == 2 * len(WEIGHTS)
    assert figure.title == (
        "small is ahead where efficiency counts more, large where accuracy does"
    )
    one = aiq({"network": (0.25, 1.0)})
    assert "63 % at weight 2" in one.title
    assert aiq({"a": (0.5, 0.9), "b": (0.4, 0.8)}).title.startswith("a has the highest aIQ")
    assert aiq({}) is None
    with pytest.raises(ValueError, match="accuracy lies within 0 to 1"):
        aiq({"network": (0.2, 90)})


def test_runs_side_by_side(tmp_path):
    runs = {
        "before": run_of(tmp_path / "a", ["conv", "dense"]),
        "after": run_of(tmp_path / "b", ["conv", "empty", "last"], seed=1),
    }
    figure = efficiencies(runs)
    summaries = {name: run.summary()["efficiency"] for name, run in runs.items()}
    for run, _, layer, share, _, _ in figure.data.itertuples(index=False):
        assert share == 100 * summaries[run][layer]
    assert figure.data["number"].tolist() == [1, 2, 1, 4]  # conv, dense; empty and last
    assert figure.title.startswith("Runs differ most in conv")
    assert efficiencies({"before": runs["before"]}) is None
    same = {"before": runs["before"], "again": runs["before"]}
    assert efficiencies(same).title == "No layer differs in efficiency from run to run"
    other = {"before": runs["before"], "other": run_of(tmp_path / "c", ["first"])}
    assert efficiencies(other).title == "No layer has the same name in two runs"


def test_distances_from_the_first_run(tmp_path):
    names = ["conv", "dense", "last"]
    runs = {str(seed): run_of(tmp_path / str(seed), names, seed) for seed in range(3)}
    figure = distances(runs)
    assert len(figure.data) == 6
    for run, _, layer, distance, shared in figure.data.itertuples(index=False):
        expected = runs["0"][layer].divergence(runs[run][layer])
        assert distance == expected["distance"]
        assert shared == 100 * expected["shared_mass"]
    # Layers with other neurons, and those that only one run has, are left out.
    other = run_of(tmp_path / "other", ["dense", "conv", "new"])
    assert distances({"0": runs["0"], "other": other}) is None
    mixed = distances({"0": runs["0"], "other": other, "1": runs["1"]})
    assert set(mixed.data["run"]) == {"1"}
    assert "2 layers with other neurons" in mixed.doubt
    assert distances({"0": runs["0"]}) is None
    assert distances({}) is None


def test_large_layers_are_not_compared_state_by_state(tmp_path, monkeypatch):
    runs = {str(seed): run_of(tmp_path / str(seed), ["conv", "dense"], seed) for seed in range(2)}
    most = int(runs["0"]["conv"].spectrum()[1].sum())
    monkeypatch.setattr("tensorstate.report.comparison_figures.MOST_DISTINCT", most)
    assert distances(runs).data["layer"].tolist() == ["conv"]


def test_names_are_no_formulas_and_fit_their_axis():
    from bokeh.models import PlainText

    name = HOSTILE.replace("/", "|").replace("\\", "|")
    run = run_of(MemoryStore(), [name, "dense"], labels=[HOSTILE, "b", "c"] * 20)
    figures = [
        efficiency(run),
        label_overlap(run[name]),
        label_information(run),
        efficiencies({HOSTILE: run, "b": run}),
        distances({"b": run, HOSTILE: run}),
        aiq({HOSTILE: (0.2, 0.9)}),
    ]
    for figure in figures:
        assert len(figure.title) < 250
        assert len(figure.alternative) < 600
        for axis in figure.plot.axis:
            for label in axis.major_label_overrides.values():
                if not isinstance(label, PlainText):
                    assert "$$" not in label
                    assert len(label) <= 18
        for tooltip in figure.plot.hover.tooltips:
            assert "{safe}" not in tooltip[1]
        # The data have it as it is.
        texts = figure.data.select_dtypes(exclude="number").to_numpy()
        assert (pd.DataFrame(texts) == HOSTILE).to_numpy().any() or (texts == name).any()
