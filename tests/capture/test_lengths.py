"""Recording instances of different lengths, against lists of the rows of each instance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from tensorstate.capture import StateRecorder
from tensorstate.capture.lengths import rows_where
from tensorstate.storage import open_run
from tests.strategies import as_dict, count_by_hand, reproducible, seeds

NEURONS = 11


def recorder(store=None, **options):
    return StateRecorder("lstm", store, variable_positions=True, **options)


def packed(x):
    return np.packbits(x > 0, axis=-1, bitorder="little")


def batch_of(instances, steps, seed=0):
    """Activations of few different states, so that they repeat."""
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(6, NEURONS)).astype(np.float32)
    return pool[rng.integers(0, 6, (instances, steps))]


def check(layer, instances):
    """Compare with the rows of each instance."""
    rows = np.concatenate([np.empty((0, 2), np.uint8), *instances])
    assert (layer.positions, layer.neurons) == (None, NEURONS)
    assert (layer.instance_count, layer.state_count) == (len(instances), len(rows))
    np.testing.assert_array_equal(layer.raw_states[:], rows)
    return rows


@st.composite
def batches(draw):
    """Batches of any shape, padded or not, and what is recorded of each of their instances."""
    drawn, instances = [], []
    for _ in range(draw(st.integers(1, 5))):
        size, steps = draw(st.integers(0, 6)), draw(st.integers(0, 9))
        x = batch_of(size, steps, draw(seeds))
        lengths = None
        if draw(st.booleans()):
            lengths = draw(st.lists(st.integers(0, steps), min_size=size, max_size=size))
        drawn.append((x, lengths))
        instances += [packed(x[i, : lengths[i] if lengths else steps]) for i in range(size)]
    return drawn, instances


@settings(reproducible, max_examples=25)
@given(batches(), st.sampled_from([1, 50, 10_000]), st.integers(1, 30), st.data())
def test_any_batches(drawn, queue_bytes, chunk_rows, data):
    drawn, instances = drawn
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tensorstate.storage.writer._chunk_bytes", lambda share: 2 * chunk_rows)
        patch.setattr("tensorstate.storage.format.OFFSETS_OF_CHUNK", 4)
        capture = recorder(store, queue_bytes=queue_bytes)
        for number, (x, lengths) in enumerate(drawn):
            if number and data.draw(st.booleans()):  # a program of its own goes on
                capture.close()
                capture = recorder(store, queue_bytes=queue_bytes, mode="resume")
            capture.record(x, lengths)
        if not instances:
            assert (capture.instance_count, capture.state_count) == (0, 0)
            return
        if capture.state_count:
            check(capture, instances)
        capture.close()
    run = open_run(store)
    assert run.instances == len(instances)
    layer = run["lstm"]
    rows = check(layer, instances)
    if not len(rows):
        return
    chosen = data.draw(st.lists(st.integers(0, len(instances) - 1), max_size=12))
    of_chosen = np.concatenate([rows[:0], *(instances[i] for i in chosen)])
    expected = count_by_hand(of_chosen)
    found = as_dict(layer.histogram(chosen), rows)
    assert {s: n for s, (n, _) in found.items()} == {s: n for s, (n, _) in expected.items()}
    mask = np.isin(np.arange(len(instances)), chosen)
    assert layer.counts(mask).sum() == sum(len(instances[i]) for i in set(chosen))
    by = layer.histogram(by=np.arange(len(instances)) % 3)
    for label, histogram in by.items():
        assert histogram.total == sum(map(len, instances[label::3]))


def test_images_of_two_sizes_and_another_channel_axis():
    capture = recorder(channel_axis=1)
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(2, NEURONS, *size)) for size in [(3, 4), (5, 2)]]
    for x in images:
        capture.record(x)
    check(capture, [packed(np.moveaxis(i, 0, -1)).reshape(-1, 2) for x in images for i in x])


def test_a_length_counts_the_first_axis_of_positions():
    x = np.random.default_rng(0).normal(size=(3, 4, 2, NEURONS))
    capture = recorder()
    capture.record(x, lengths=np.array([4, 0, 1], np.uint8))
    check(capture, [packed(x[i, :n]).reshape(-1, 2) for i, n in enumerate([4, 0, 1])])


def test_where_a_mask_is_true():
    x = batch_of(3, 4)
    mask = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]], bool)
    capture = recorder()
    capture.record_where(x, mask)
    check(capture, [packed(x[i][mask[i]]) for i in range(3)])
    rows, lengths = rows_where(x.reshape(3, 2, 2, NEURONS), mask.reshape(3, 2, 2), "a")
    np.testing.assert_array_equal(rows, x[mask])
    assert lengths.tolist() == [3, 0, 2]


def test_padding_is_neither_nan_nor_part_of_a_threshold(recwarn):
    x = batch_of(3, 4)
    padded = x.copy()
    lengths = [4, 1, 2]
    for i, length in enumerate(lengths):
        padded[i, length:] = np.nan
    capture = recorder(threshold=lambda x: np.median(x, axis=0))
    capture.record(padded, lengths)
    only = np.concatenate([x[i, :length] for i, length in enumerate(lengths)])
    medians = np.median(only, axis=0)
    assert capture.threshold == tuple(medians.astype(float))
    check(capture, [packed(x[i, :length] - medians) for i, length in enumerate(lengths)])
    assert not recwarn


def test_parts_of_several_writers(tmp_path):
    x, lengths = batch_of(7, 5), [5, 0, 2, 3, 1, 4, 5]
    for part, (start, stop) in enumerate([(0, 4), (4, 7)]):
        with recorder(tmp_path / "run", part=part, first_instance=start) as capture:
            capture.record(x[start:stop], lengths[start:stop])
    run = open_run(tmp_path / "run")
    assert run.parts == {"0": range(4), "1": range(4, 7)}
    instances = [packed(x[i, :length]) for i, length in enumerate(lengths)]
    check(run["lstm"], instances)
    for number, rows in enumerate(instances):
        assert run["lstm"].histogram([number]).total == len(rows)


def test_a_layer_ahead_of_the_others_goes_back_to_what_all_have(tmp_path):
    x, lengths = batch_of(9, 5), [5, 0, 2, 3, 0, 4, 5, 0, 1]
    options = {"mode": "resume"}
    first, second = recorder(tmp_path / "run"), StateRecorder("dense", tmp_path / "run")
    first.record(x, lengths)
    second.record(x[:5, 0])
    first.close()
    assert open_run(tmp_path / "run").instances == 5
    first, second = (
        recorder(tmp_path / "run", **options),
        StateRecorder("dense", tmp_path / "run", **options),
    )
    first.record(x[5:], lengths[5:])
    assert (first.instance_count, first.state_count) == (9, sum(lengths))
    second.record(x[5:, 0])
    first.close()
    run = open_run(tmp_path / "run")
    assert run.instances == 9
    check(run["lstm"], [packed(x[i, :length]) for i, length in enumerate(lengths)])


def test_resetting(tmp_path):
    x = batch_of(4, 5)
    with recorder(tmp_path / "run") as capture:
        capture.record(x, [1, 2, 0, 0])
        capture.reset_states()
        assert (capture.instance_count, capture.state_count) == (0, 0)
        capture.record(x, [0, 3, 0, 5])
    instances = [packed(x[i, :length]) for i, length in enumerate([0, 3, 0, 5])]
    for layer in (capture, open_run(tmp_path / "run")["lstm"]):
        check(layer, instances)


def test_the_summary_tells_that_positions_vary(tmp_path):
    with recorder(tmp_path / "run") as capture, StateRecorder("dense", tmp_path / "run") as dense:
        capture.record(batch_of(3, 5), [5, 0, 2])
        dense.record(batch_of(3, 5))
    summary = open_run(tmp_path / "run").summary()
    assert summary["positions"].isna().tolist() == [True, False]
    assert summary.loc["dense", "positions"] == 5
    assert summary["instances"].tolist() == [3, 3]
    assert "StateRecorder 'lstm': 11 neurons, 7 states" in repr(capture)


@pytest.mark.parametrize(
    ("lengths", "error", "says"),
    [
        ([1, 2], ValueError, r"'lstm' got lengths of shape \(2,\) with 3 instances"),
        ([[1, 2, 3]], ValueError, r"lengths of shape \(1, 3\) with 3 instances"),
        (3, ValueError, r"lengths of shape \(\) with 3 instances"),
        ([1, -1, 2], ValueError, "the length -1 for instance 1 of a batch with 4 positions"),
        ([1, 2, 5], ValueError, "the length 5 for instance 2 of a batch with 4 positions"),
        ([1.0, 2.0, 3.0], TypeError, "lengths are whole numbers, not float64"),
        ([True, False, True], TypeError, "lengths are whole numbers, not bool"),
    ],
)
def test_lengths_that_cannot_be(lengths, error, says):
    capture = recorder()
    with pytest.raises(error, match=says):
        capture.record(batch_of(3, 4), lengths)
    assert capture.instance_count == 0


def test_lengths_without_positions():
    with pytest.raises(ValueError, match="has no axis of positions beside those of instances"):
        recorder().record(np.ones((3, NEURONS)), [1, 1, 1])


def test_other_neurons_than_before():
    capture = recorder()
    capture.record(batch_of(2, 3))
    with pytest.raises(ValueError, match="'lstm' got 4 neurons, after batches of 11"):
        capture.record(np.ones((2, 3, 4)))


def test_a_run_of_one_kind_does_not_go_on_as_the_other(tmp_path):
    with StateRecorder("lstm", tmp_path / "run") as plain:
        plain.record(batch_of(2, 3))
        for record in (
            lambda: plain.record(batch_of(2, 3), [1, 2]),
            lambda: plain.record_where(batch_of(2, 3), np.ones((2, 3), bool)),
        ):
            with pytest.raises(ValueError, match="make it with variable_positions=True"):
                record()
        with pytest.raises(ValueError, match=r"at 4 positions, .*variable_positions=True they may"):
            plain.record(batch_of(2, 4))
    with pytest.raises(ValueError, match=r"positions=3.*go on as .*positions=None"):
        recorder(tmp_path / "run", mode="resume").record(batch_of(2, 3))


def test_a_flood_of_instances_without_rows_is_written_in_time():
    capture = recorder(queue_bytes=1 << 16)
    capture.record(batch_of(1, 2))
    for _ in range(40):
        capture.record(np.empty((10_000, 0, NEURONS), np.float32))
    capture.record(batch_of(1, 3))
    assert (capture.instance_count, capture.state_count) == (400_002, 5)
    assert capture.histogram([0, 400_001]).total == 5
    assert capture.histogram([1, 400_000]).total == 0


def test_a_rarefaction_that_begins_with_instances_without_rows():
    capture = recorder()
    capture.record(batch_of(4, 3), [0, 0, 0, 3])
    found = capture.rarefaction(4)
    assert found["states"].iloc[[0, -1]].tolist() == [0, 3]
    assert found["entropy"].isna().tolist() == (found["states"] == 0).tolist()
    assert found["entropy"].iloc[-1] == capture.entropy()
    interval = capture.entropy_interval()
    assert interval["low"] <= interval["entropy"] <= interval["high"]
