"""Patterns of whole instances, against unpacked activations side by side."""

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

import tensorstate as ts
from tensorstate.storage import joint, open_run
from tests.strategies import reproducible, seeds

SHAPES = {"a": (3, 10), "b": (4, 2, 17), "c": (8,)}


def recorded(instances, seed, store, distinct=4):
    """Record layers of several shapes, with few kinds of instances; return all activations."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, distinct, instances)
    recorders = [ts.StateRecorder(name, store) for name in SHAPES]
    fires = {}
    for recorder, (name, shape) in zip(recorders, SHAPES.items(), strict=True):
        fires[name] = (rng.normal(size=(distinct, *shape)) > 0)[kinds]
        recorder.record(fires[name])
    recorders[0].close()
    return fires


def flat(fires, names):
    return np.concatenate([fires[n].reshape(len(fires[n]), -1) for n in names], axis=1)


@reproducible
@given(
    instances=st.integers(1, 30),
    seed=seeds,
    names=st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, max_size=3, unique=True),
    read_bytes=st.integers(1, 500),
)
def test_regions_are_distinct_patterns(instances, seed, names, read_bytes):
    store = MemoryStore()
    expected = flat(recorded(instances, seed, store), names)
    run = open_run(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint, "_READ_BYTES", read_bytes)
        found = run.linear_regions(names)
    _, first, counts = np.unique(expected, axis=0, return_index=True, return_counts=True)
    assert sorted(zip(found.first_rows.tolist(), found.counts.tolist(), strict=True)) == sorted(
        zip(first.tolist(), counts.tolist(), strict=True)
    )
    chosen = np.random.default_rng(seed).integers(0, instances, 5)
    c = expected[chosen].astype(np.int64)
    kernel = run.hamming_kernel(chosen, names)
    np.testing.assert_array_equal(kernel, c @ c.T + (1 - c) @ (1 - c).T)


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_all_layers_under_any_scheduler(tmp_path, scheduler):
    fires = flat(recorded(300, 1, tmp_path / "run", distinct=50), SHAPES)
    run = open_run(tmp_path / "run")
    with dask.config.set(scheduler=scheduler, num_workers=2):
        found = run.linear_regions(memory_limit="1 GiB")
    assert found.distinct == len(np.unique(fires, axis=0)) == 50
    assert found.total == 300


def test_patterns_are_sliced_as_arrays_are():
    store = MemoryStore()
    recorded(20, 2, store)
    patterns = joint.InstancePatterns(list(open_run(store).values()))
    every = patterns[:]
    assert every.shape == patterns.shape == (20, 3 * 2 + 8 * 3 + 1)
    assert patterns.units == 30 + 8 * 17 + 8
    for some in (slice(3, 9), slice(9, 3), slice(None, None, 3), slice(30, 40), np.array([5, 0])):
        np.testing.assert_array_equal(patterns[some], every[some])


def test_equal_instances_in_a_batch():
    store = MemoryStore()
    with ts.StateRecorder("layer", store) as recorder:
        recorder.record(np.array([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [1.0, -1.0, 1.0]]))
    run = open_run(store)
    assert run.naswot_score([0, 1]) == pytest.approx(np.log(9 - 4))
    assert run.naswot_score([0, 1, 2]) == -np.inf
    assert run.hamming_kernel([True, True, False]).to_numpy().tolist() == [[3, 2], [2, 3]]
    alike = run.hamming_kernel([2, 0])
    assert (alike.index.name, alike.columns.name) == ("instance", "other")
    assert alike.index.tolist() == alike.columns.tolist() == [2, 0]
    with pytest.raises(IndexError, match="instance 3"):
        run.hamming_kernel([3])
    with pytest.raises(KeyError, match="no layer 'other'"):
        run.linear_regions(["other"])
    with pytest.raises(ValueError, match="at least one layer"):
        run.linear_regions([])


def test_instances_that_differ_in_length_have_no_common_pattern():
    store = MemoryStore()
    with ts.StateRecorder("lstm", store, variable_positions=True) as recorder:
        recorder.record(np.ones((2, 3, 5)), lengths=[3, 1])
    with pytest.raises(ValueError, match="'lstm' differ in their number of positions"):
        open_run(store).linear_regions()
