"""Thresholds for each neuron, and functions that find them, against np.packbits."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstate as ts
from tensorstate import StateRecorder, compress_states, open_run


def packed(x, threshold):
    return np.packbits(x > threshold, axis=-1, bitorder="little")


def activations(seed, shape, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def medians(x):
    return np.median(x, axis=tuple(range(x.ndim - 1)))


DTYPES = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, np.int16, np.uint8, np.bool_]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(1, 70), st.sampled_from(DTYPES), st.integers(0, 2**32 - 1))
def test_a_threshold_for_each_neuron(neurons, dtype, seed):
    rng = np.random.default_rng(seed)
    x = (3 * rng.normal(size=(9, neurons))).astype(dtype)
    # Some thresholds are values that occur, which do not fire.
    thresholds = np.where(rng.random(neurons) < 0.5, x[0].astype(float), rng.normal(size=neurons))
    in_dtype = thresholds.astype(dtype) if np.dtype(dtype).kind in "fV" else thresholds
    np.testing.assert_array_equal(compress_states(x, thresholds), packed(x, in_dtype))


def test_thresholds_are_stored_and_read_again(tmp_path):
    x = activations(0, (50, 4, 20))
    thresholds = np.linspace(-1, 1, 20).astype(np.float32)
    with StateRecorder("a", tmp_path / "run", threshold=thresholds) as recorder:
        recorder.record(x)
    layer = open_run(tmp_path / "run")["a"]
    assert layer.threshold == recorder.threshold == tuple(thresholds.astype(float))
    np.testing.assert_array_equal(layer.raw_states[:], packed(x, thresholds).reshape(-1, 3))


def test_along_another_axis():
    x = activations(1, (6, 5, 3, 4))  # 5 neurons at 12 positions
    thresholds = [-1.0, -0.5, 0.0, 0.5, 1.0]
    recorder = StateRecorder("a", threshold=thresholds, channel_axis=1)
    recorder.record(x)
    last = np.moveaxis(x, 1, -1)
    np.testing.assert_array_equal(
        recorder.raw_states[:], packed(last, np.float32(thresholds)).reshape(-1, 1)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_function_is_asked_once_and_its_answer_holds_for_the_run(tmp_path, dtype):
    first, second = activations(2, (40, 3, 9), dtype), activations(3, (40, 3, 9), dtype)
    asked = []

    def threshold(x):
        asked.append(x.shape)
        return medians(x)

    with StateRecorder("a", tmp_path / "run", threshold=threshold) as recorder:
        recorder.record(first)
        recorder.record(second + dtype(5))
    expected = medians(first.astype(np.float32)).astype(dtype)
    assert asked == [(40, 3, 9)]
    both = np.concatenate([first, second + dtype(5)])
    np.testing.assert_array_equal(recorder.raw_states[:], packed(both, expected).reshape(-1, 2))
    half = np.unpackbits(recorder.raw_states[:120], axis=1, count=9, bitorder="little")
    assert (half.sum(axis=0) == 60).all()


def test_a_function_is_not_asked_again_when_a_run_is_resumed(tmp_path):
    first, second = activations(4, (10, 9)), activations(5, (10, 9)) + 2
    with StateRecorder("a", tmp_path / "run", threshold=medians) as recorder:
        recorder.record(first)
    with StateRecorder("a", tmp_path / "run", threshold=medians, mode="resume") as recorder:
        recorder.record(second)
    np.testing.assert_array_equal(
        open_run(tmp_path / "run")["a"].raw_states[:],
        packed(np.concatenate([first, second]), medians(first)),
    )


def test_other_thresholds_than_those_of_a_resumed_run_are_refused(tmp_path):
    with StateRecorder("a", tmp_path / "run", threshold=[0.0, 1.0]) as recorder:
        recorder.record(activations(6, (5, 2)))
    again = StateRecorder("a", tmp_path / "run", threshold=[0.0, 2.0], mode="resume")
    with pytest.raises(ValueError, match=r"was recorded as .*threshold=\(0.0, 1.0\)"):
        again.record(activations(6, (5, 2)))
    again.close()


def test_a_function_may_return_one_number():
    x = activations(7, (30, 4, 8))
    recorder = StateRecorder("a", threshold=np.mean)
    recorder.record(x)
    assert recorder.threshold == float(np.mean(x))


@pytest.mark.parametrize(
    ("threshold", "error", "says"),
    [
        ([0.0, np.nan], ValueError, "finite number"),
        ([], ValueError, "a number or a row of them"),
        ([[0.0], [1.0]], ValueError, "a number or a row of them"),
        ([[0.0], [1.0, 2.0]], ValueError, "a number or a row of them"),
        ("0.5", TypeError, "one for each neuron, or a function"),
        (1j, TypeError, "one for each neuron, or a function"),
        (None, TypeError, "one for each neuron, or a function"),
    ],
)
def test_what_is_no_threshold(threshold, error, says, tmp_path):
    with pytest.raises(error, match=says):
        StateRecorder("a", tmp_path / "run", threshold=threshold)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("function", "error", "says"),
    [
        (lambda x: np.zeros(3), ValueError, "of capture 'a' .* 3 thresholds for 4 neurons"),
        (lambda x: x > 0, TypeError, "of capture 'a' .* number, or one for each of its 4"),
        (lambda x: np.nan, ValueError, "of capture 'a' .*finite"),
        (lambda x: None, TypeError, "of capture 'a'"),
        (lambda x: 1 / 0, ZeroDivisionError, "division"),
    ],
)
def test_functions_that_do_not_return_thresholds(function, error, says):
    recorder = StateRecorder("a", threshold=function)
    with pytest.raises(error, match=says):
        recorder.record(activations(8, (5, 4)))
    assert recorder.state_count == 0


def test_a_wrong_number_of_thresholds():
    recorder = StateRecorder("a", threshold=[0.0, 1.0])
    with pytest.raises(ValueError, match="'a' has 2 thresholds, but its states have 4 neurons"):
        recorder.record(activations(9, (5, 4)))
    with pytest.raises(ValueError, match="one for each of 4 neurons"):
        compress_states(activations(9, (5, 4)), [0.0, 1.0])


class TestInKeras:
    keras = pytest.importorskip("keras")

    def probed(self, **options):
        inputs = self.keras.layers.Input((9,))
        capture = ts.StateCapture("probe", **options)
        return self.keras.Model(inputs, capture(inputs)), capture

    def test_the_median_of_the_first_batch(self):
        model, capture = self.probed(threshold=medians)
        x = activations(10, (64, 9))
        model.predict(x, batch_size=32, verbose=0)
        np.testing.assert_array_equal(capture.raw_states[:], packed(x, medians(x[:32])))

    @pytest.mark.parametrize("threshold", [0.25, np.linspace(-1, 1, 9)])
    def test_a_saved_model_keeps_its_thresholds(self, threshold, tmp_path):
        model, _ = self.probed(threshold=threshold)
        model.save(tmp_path / "model.keras")
        again = self.keras.saving.load_model(tmp_path / "model.keras")
        x = activations(11, (20, 9))
        again.predict(x, verbose=0)
        np.testing.assert_array_equal(
            again.layers[-1].raw_states[:], packed(x, np.float32(threshold))
        )

    def test_a_function_is_saved_as_what_it_found(self, tmp_path):
        model, capture = self.probed(threshold=medians)
        with pytest.raises(ValueError, match="'probe' has a function as its threshold"):
            model.get_config()
        x = activations(12, (20, 9))
        model.predict(x, verbose=0)
        model.save(tmp_path / "model.keras")
        again = self.keras.saving.load_model(tmp_path / "model.keras")
        again.predict(x, verbose=0)
        np.testing.assert_array_equal(again.layers[-1].raw_states[:], capture.raw_states[:])

    def test_a_wrong_number_is_told_when_the_model_is_built(self):
        with pytest.raises(ValueError, match=r"'probe' has 2 thresholds, .* 9 neurons: give one"):
            self.probed(threshold=[0.0, 1.0])

    def test_a_wrong_number_is_told_with_the_first_batch_if_the_neurons_are_not_known(self):
        inputs = self.keras.layers.Input((None, None))
        probe = ts.StateCapture("probe", threshold=[0.0, 1.0])
        model = self.keras.Model(inputs, probe(inputs))
        with pytest.raises(Exception, match=r"'probe' has 2 thresholds, .* 9 neurons: give one"):
            model(activations(13, (5, 4, 9)))
        assert probe.state_count == 0

    def test_a_wrong_number_for_one_of_the_layers_leaves_nothing(self, tmp_path):
        inputs = self.keras.layers.Input((9,))
        hidden = self.keras.layers.Dense(3, name="first")(inputs)
        model = self.keras.Model(inputs, self.keras.layers.Dense(4, name="second")(hidden))
        says = "'second_states' has 3 thresholds, but its states have 4 neurons"
        with pytest.raises(ValueError, match=says):
            ts.build_efficiency_model(
                model, "Dense", threshold=[0.0, 1.0, 2.0], storage_path=tmp_path / "run"
            )
        assert not (tmp_path / "run").exists()
        with pytest.raises(ValueError, match=r"'first_pre_states' has 3 thresholds, .* 9 neurons"):
            ts.build_efficiency_model(model, "first", method="before", threshold=[0.0, 1.0, 2.0])
        ts.build_efficiency_model(model, "first", threshold=[0.0, 1.0, 2.0])
