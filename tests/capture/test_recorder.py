"""Recording from arrays of any kind, shape and layout."""

import threading
import warnings
from unittest.mock import patch

import numpy as np
import pytest

from tensorstate.capture import StateRecorder
from tensorstate.storage import open_run
from tensorstate.storage.part_writer import PartWriter
from tests.capture.obvious import packed


def batch(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 20), (5, 3, 20), (5, 4, 3, 20), (5, 2, 2, 2, 9)])
def test_positions_are_in_the_order_of_the_array(shape):
    x = batch(*shape)
    recorder = StateRecorder("a")
    recorder.record(x)
    np.testing.assert_array_equal(np.asarray(recorder.raw_states), packed(x))
    assert recorder.positions == np.prod(shape[1:-1])


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2, -3])
def test_neurons_on_any_axis_but_the_first(axis):
    x = batch(5, 4, 3, 6)
    recorder = StateRecorder("a", channel_axis=axis)
    recorder.record(x)
    np.testing.assert_array_equal(np.asarray(recorder.raw_states), packed(np.moveaxis(x, axis, -1)))


def test_threshold():
    x = batch(5, 20)
    recorder = StateRecorder("a", threshold=0.7)
    recorder.record(x)
    np.testing.assert_array_equal(np.asarray(recorder.raw_states), packed(x - np.float32(0.7)))


class OnlyDLPack:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def test_lists_and_dlpack():
    recorder = StateRecorder("a")
    recorder.record([[1.0, -1.0], [2.0, 3.0]])
    recorder.record(OnlyDLPack(np.array([[-1.0, 1.0]])))
    assert np.asarray(recorder.raw_states).tolist() == [[1], [3], [2]]


@pytest.mark.parametrize("queue_bytes", [1, 1000, 1 << 20])
def test_a_batch_larger_than_the_queue(queue_bytes):
    x = batch(500, 7, 20)
    recorder = StateRecorder("a", queue_bytes=queue_bytes)
    recorder.record(x)
    np.testing.assert_array_equal(np.asarray(recorder.raw_states), packed(x))


def test_capture_on_takes_effect_at_once():
    recorder = StateRecorder("a")
    recorder.capture_on = False
    recorder.record(batch(5, 20))
    assert recorder.state_count == 0
    recorder.capture_on = True
    recorder.record(batch(3, 20))
    assert recorder.state_count == 3


def test_nan_does_not_fire_and_warns_once_with_their_number():
    x = batch(5, 20)
    x[2, 3:7] = np.nan
    recorder = StateRecorder("conv_1_states")
    with pytest.warns(RuntimeWarning, match="'conv_1_states' met 4 NaN activations") as caught:
        [recorder.record(x) for _ in range(2)]
    assert len(caught) == 1
    np.testing.assert_array_equal(np.asarray(recorder.raw_states), np.tile(packed(x), (2, 1)))


def test_no_warning_without_nan():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StateRecorder("a").record(batch(5, 20))


@pytest.mark.parametrize(
    ("x", "error", "says"),
    [
        (np.zeros(5), ValueError, "instances on axis 0 and neurons on axis -1"),
        (np.zeros((5, 0)), ValueError, "at least one neuron"),
        (np.zeros((5, 0, 3)), ValueError, "no position in an instance"),
        (np.zeros((5, 3), complex), TypeError, "real numbers"),
        ("text", TypeError, "recorded from arrays, not from str"),
        (None, TypeError, "recorded from arrays"),
    ],
)
def test_what_cannot_be_recorded(x, error, says):
    recorder = StateRecorder("a")
    with pytest.raises(error, match=says):
        recorder.record(x)
    recorder.record(batch(2, 20))
    assert recorder.state_count == 2


@pytest.mark.parametrize("shape", [(5, 4, 21), (5, 5, 20), (5, 20)])
def test_batches_of_another_shape_are_refused(shape):
    recorder = StateRecorder("a")
    recorder.record(batch(5, 4, 20))
    with pytest.raises(
        ValueError, match=r"got .* neurons at .* positions, after batches of 20 at 4"
    ):
        recorder.record(batch(*shape))
    assert recorder.state_count == 20


def test_a_channel_axis_that_is_not_there():
    with pytest.raises(ValueError, match="neurons on axis 3"):
        StateRecorder("a", channel_axis=3).record(batch(5, 20))
    with pytest.raises(ValueError, match="neurons on axis 0"):
        StateRecorder("a", channel_axis=0).record(batch(5, 20))


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "__x", "a\\b", "\0"])
def test_names_that_cannot_be_stored(name, tmp_path):
    with pytest.raises(ValueError, match="cannot name a capture"):
        StateRecorder(name, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(TypeError, match="is text"):
        StateRecorder(3)


@pytest.mark.parametrize("threshold", [np.nan, np.inf])
def test_thresholds_that_make_no_sense(threshold):
    with pytest.raises(ValueError, match="the threshold is a finite number"):
        StateRecorder("a", threshold=threshold)


def test_recorders_with_one_path_share_a_run(tmp_path):
    first, second = StateRecorder("a", tmp_path / "run"), StateRecorder("b", tmp_path / "run")
    first.record(batch(5, 20))
    second.record(batch(5, 2, 9))
    first.close()
    run = open_run(tmp_path / "run")
    assert (run.instances, run["a"].state_count, run["b"].state_count) == (5, 5, 10)


def test_a_recorder_does_not_join_a_run_that_failed(tmp_path):
    path = tmp_path / "run"
    some = batch(10, 3)
    failed = StateRecorder("a", path)
    failed.record(some)
    failed.flush()
    failed.record(some)
    with (
        patch.object(PartWriter, "flush", side_effect=OSError(28, "No space left on device")),
        pytest.raises(OSError, match=r"10 instances are committed: .*No space left"),
    ):
        failed.flush()
    with StateRecorder("a", path, mode="resume") as recorder:
        recorder.record(some)
    with pytest.raises(OSError, match="No space left"):
        failed.record(some)
    expected = packed(np.concatenate([some, some]))
    np.testing.assert_array_equal(open_run(path)["a"].raw_states[:], expected)


def test_a_closed_recorder_can_be_read_but_not_recorded_with():
    with StateRecorder("a") as recorder:
        recorder.record(batch(5, 20))
    assert recorder.counts().sum() == 5
    with pytest.raises(ValueError, match="closed"):
        recorder.record(batch(5, 20))
    with pytest.raises(ValueError, match="closed"):
        recorder.reset_states()


def test_nothing_is_added_to_a_closed_run(tmp_path):
    recorder = StateRecorder("a", tmp_path / "run")
    recorder.close()
    with pytest.raises(ValueError, match="closed"):
        recorder.record(batch(5, 20))
    assert list(open_run(tmp_path / "run")) == []


def test_resuming_counts_on(tmp_path):
    with StateRecorder("a", tmp_path / "run") as recorder:
        recorder.record(batch(5, 4, 20))
    with StateRecorder("a", tmp_path / "run", mode="resume") as recorder:
        recorder.record(batch(3, 4, 20, seed=1))
        assert recorder.instance_count == 8
    both = np.concatenate([packed(batch(5, 4, 20)), packed(batch(3, 4, 20, seed=1))])
    np.testing.assert_array_equal(np.asarray(open_run(tmp_path / "run")["a"].raw_states), both)


def test_batches_of_several_threads_are_not_mixed():
    recorder = StateRecorder("a", queue_bytes=4000)
    batches = [np.full((300, 8), sign) for sign in (1.0, -1.0) * 4]
    threads = [threading.Thread(target=recorder.record, args=(b,)) for b in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = np.asarray(recorder.raw_states).reshape(8, 300)
    assert (rows == rows[:, :1]).all()
    assert rows[:, 0].sum() == 4 * 255


def test_a_batch_without_instances_records_nothing_and_says_nothing_of_the_shape():
    recorder = StateRecorder("r")
    recorder.record(np.empty((0, 5, 3)))
    assert recorder.state_count == 0
    recorder.record(np.ones((2, 4, 9)))
    recorder.record(np.empty((0, 5, 3)))
    assert (recorder.state_count, recorder.positions, recorder.neurons) == (8, 4, 9)
