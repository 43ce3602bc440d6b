"""What is JAX's alone: programs that run behind their caller's back, and how they fail."""

import os
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
from keras import layers, ops
from zarr.storage import MemoryStore

import tensorstate as ts
from tensorstate.storage import open_run
from tests.capture import models
from tests.capture.obvious import packed
from tests.storage.stores import FailingStore, WrapperStore

if keras.backend.backend() != "jax":
    pytest.skip("needs jax", allow_module_level=True)

import jax

from tensorstate.capture.backends import jax as on_jax


def wide(**options):
    """A model with one wide layer, its efficiency model, and both compiled by hand."""
    inputs = layers.Input((None, 16))
    model = keras.Model(inputs, layers.Dense(64, name="dense")(inputs))
    captured = ts.build_efficiency_model(model, "dense", **options)
    return jax.jit(lambda x: model(x)), captured, jax.jit(lambda x: captured(x))


def batches(count, instances=50, positions=40):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(instances, positions, 16)).astype(np.float32) for _ in range(count)]


def test_passes_that_nobody_waits_for_are_in_order():
    plain, captured, run = wide()
    for x in batches(30):
        run(x)
    capture = captured.efficiency_layers[0]
    assert capture.state_count == 30 * 50 * 40
    np.testing.assert_array_equal(
        np.asarray(capture.raw_states), np.concatenate([packed(plain(x)) for x in batches(30)])
    )


def test_turning_off_and_resetting_wait_for_what_is_under_way():
    _, captured, run = wide()
    capture = captured.efficiency_layers[0]
    for x in batches(5):
        run(x)
    capture.capture_on = False
    for x in batches(5):
        run(x)
    assert capture.instance_count == 250
    capture.capture_on = True
    for x in batches(3):
        run(x)
    capture.reset_states()
    assert capture.state_count == 0
    run(batches(1)[0])
    assert capture.instance_count == 50


@pytest.mark.parametrize("jit_compile", [True, False])
def test_compiled_or_not(jit_compile):
    keras.utils.set_random_seed(1)
    model = models.functional()
    model.compile(loss="mse", optimizer="sgd", jit_compile=jit_compile)
    x, y = models.images(40), np.zeros((40, 5))
    captured = ts.build_efficiency_model(model, "Conv2D")
    assert captured.jit_compile is jit_compile
    expected = model.predict(x, batch_size=16, verbose=0)
    np.testing.assert_array_equal(captured.predict(x, batch_size=16, verbose=0), expected)
    captured.evaluate(x, y, batch_size=16, verbose=0)
    captured.fit(x, y, batch_size=16, verbose=0, shuffle=False)
    assert [c.instance_count for c in captured.efficiency_layers] == [120, 120]
    # What `fit` records comes before it changes the weights for the first time.
    first, rows = captured.efficiency_layers[0], 40 * 100
    predicted = np.asarray(first.raw_states[:rows])
    np.testing.assert_array_equal(np.asarray(first.raw_states[rows : 2 * rows]), predicted)
    np.testing.assert_array_equal(
        np.asarray(first.raw_states[2 * rows : 2 * rows + 1600]), predicted[:1600]
    )


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("method", ["predict", "predict_on_batch"])
def test_the_pass_that_makes_the_variables_is_not_recorded(by_hand, method):
    class Unbuilt(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(20, name="dense")
            self.probe = ts.StateCapture("probe") if by_hand else None

        def call(self, x):
            x = self.dense(x)
            return self.probe(x) if by_hand else x

    model = Unbuilt()
    run = model if by_hand else ts.build_efficiency_model(model, "dense")
    outputs = getattr(run, method)(models.vectors(9))
    capture = model.probe if by_hand else run.efficiency_layers[0]
    np.testing.assert_array_equal(np.asarray(capture.raw_states), packed(outputs))


def test_a_probe_that_is_passed_twice_records_in_the_order_of_the_program():
    inputs = layers.Input((6,))
    probe = ts.StateCapture("probe")
    first = probe(layers.Dense(20)(inputs))
    model = keras.Model(inputs, [first, probe(layers.Dense(20)(first))])
    model.compile(steps_per_execution=2)
    outputs = model.predict(models.vectors(64), batch_size=16, verbose=0)
    parts = [output[start : start + 16] for start in range(0, 64, 16) for output in outputs]
    np.testing.assert_array_equal(np.asarray(probe.raw_states), packed(np.concatenate(parts)))


class ClosedGate(WrapperStore):
    """Lets no chunk pass until it is opened."""

    def __init__(self):
        super().__init__(MemoryStore())
        self.open = threading.Event()

    async def set(self, key, value):
        if "/c/" in key:
            assert self.open.wait(60)
        await super().set(key, value)


def test_the_model_waits_for_a_slow_store_and_nothing_piles_up(monkeypatch):
    gate = ClosedGate()
    plain, captured, run = wide(storage_path=gate, queue_bytes=20_000)
    capture = captured.efficiency_layers[0]
    begun, waiting, most = [], set(), []
    record = type(capture).record

    def counted(self, array):
        begun.append(array.nbytes)
        waiting.add(len(begun))
        most.append(len(waiting))
        number = len(begun)
        record(self, array)
        waiting.remove(number)

    monkeypatch.setattr(type(capture), "record", counted)

    def pass_everything():
        for x in batches(40):
            run(x)
        # Another thread could not wait for what this one started.
        jax.effects_barrier()

    thread = threading.Thread(target=pass_everything)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        before = -1
        while len(begun) != before or not waiting:
            assert time.monotonic() < deadline
            before = len(begun)
            time.sleep(0.5)
        # A batch is packed into 16 kB: the queue, the chunk that is written, and one at the door.
        assert len(begun) < 12
    finally:
        gate.open.set()
        thread.join()
    np.testing.assert_array_equal(
        np.asarray(capture.raw_states), np.concatenate([packed(plain(x)) for x in batches(40)])
    )
    assert len(begun) == 40
    assert max(most) == 1, "activations of several passes waited at a time"


def test_what_fails_is_told_at_the_next_look_and_the_rest_goes_on():
    _, captured, run = wide()
    capture = captured.efficiency_layers[0]
    run(batches(1)[0])
    run(batches(1, positions=39)[0])
    run(batches(1)[0])
    with pytest.raises(ValueError, match="64 neurons at 39 positions, after batches of 64 at 40"):
        capture.flush()
    # Nothing is recorded between a failure and its telling: other layers would have other rows.
    assert capture.instance_count == 50
    run(batches(1)[0])
    assert capture.instance_count == 100


@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", "predict_on_batch"])
def test_a_failed_capture_leaves_the_model_whole(method, jit_compile):
    model = models.functional()
    model.compile(loss="mse", optimizer="sgd", jit_compile=jit_compile)
    store = FailingStore(MemoryStore(), chunks=0)
    captured = ts.build_efficiency_model(model, "Conv2D", storage_path=store, queue_bytes=1000)
    x, y = models.images(400), np.zeros((400, 5))
    arguments = {"fit": (x, y), "evaluate": (x, y)}.get(method, (x,))

    def repeat():
        for _ in range(50):
            getattr(captured, method)(*arguments)

    with pytest.raises(OSError, match="No space left on device"):
        repeat()
    assert np.isfinite(model.predict(x[:5], verbose=0)).all()
    assert len(model.get_weights()) == 10
    with pytest.raises(OSError, match="No space left on device"):
        captured.efficiency_layers[0].flush()


def test_the_callbacks_of_the_user_are_called_and_kept():
    class Seen(keras.callbacks.Callback):
        batches = 0

        def on_predict_batch_end(self, batch, logs=None):
            Seen.batches += 1

    captured = ts.build_efficiency_model(models.functional(), "Conv2D")
    x = models.images(20)
    for callbacks in (Seen(), [Seen()], keras.callbacks.CallbackList([Seen()], model=captured)):
        captured.predict(x, batch_size=10, verbose=0, callbacks=callbacks)
    assert Seen.batches == 6


def test_where_the_buffers_are_not_the_hosts(monkeypatch):
    monkeypatch.setattr(on_jax.jax, "default_backend", lambda: "gpu")
    plain, captured, run = wide()
    x = batches(1, instances=2, positions=3)[0]
    run(x)
    run(-x)
    np.testing.assert_array_equal(
        np.asarray(captured.efficiency_layers[0].raw_states),
        np.concatenate([packed(plain(x)), packed(plain(-x))]),
    )


def test_a_layer_in_a_scan_is_refused():
    class Scanned(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3, name="dense")

        def build(self, shape):
            self.dense.build((shape[0], shape[2]))

        def call(self, x):
            return ops.map(self.dense, x)

    inputs = layers.Input((4, 6), batch_size=8)
    model = keras.Model(inputs, Scanned()(inputs))
    with pytest.raises(ValueError, match="'dense' runs in a loop, a branch or a function"):
        ts.build_efficiency_model(model, "dense")


def run_python(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


UNDER_WAY = """
import sys, jax, numpy as np, tensorstate as ts
from tests.capture import models
captured = ts.build_efficiency_model(models.functional(), "Conv2D", storage_path=sys.argv[1])
run = jax.jit(lambda x: captured(x))
for seed in range(3):
    run(models.images(3000, seed=seed))
if len(sys.argv) > 2:
    captured.efficiency_layers[0]._writer.close()
    run(models.images(3000))
"""


def test_a_program_that_ends_at_once_has_recorded_everything(tmp_path):
    done = run_python(UNDER_WAY, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert open_run(tmp_path / "run").instances == 9000


def test_a_failure_that_nobody_looked_at_is_told_at_the_end(tmp_path):
    done = run_python(UNDER_WAY, tmp_path / "run", "close")
    assert "recording stopped before the end of the program" in done.stderr
    assert "is closed: nothing more can be recorded" in done.stderr


SPREAD = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import keras, pytest, tensorstate as ts
from tests.capture import models
keras.distribution.set_distribution(keras.distribution.DataParallel())
with pytest.raises(NotImplementedError, match="on one device, not under a DataParallel"):
    ts.build_efficiency_model(models.functional(), "Conv2D")
keras.distribution.set_distribution(None)
ts.build_efficiency_model(models.functional(), "Conv2D").predict(models.images(8), verbose=0)
"""


def test_several_devices_are_refused():
    done = run_python(SPREAD)
    assert done.returncode == 0, done.stderr


ONE_CORE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import keras, numpy as np, tensorstate as ts
from tests.capture import models
model = models.lenet5()
x = np.random.default_rng(0).random((3 * 192 + 40, 28, 28, 1), dtype=np.float32)
layers = [layer.output for layer in model.layers if layer.name.startswith("conv")]
expected = keras.Model(model.inputs, layers).predict(x, batch_size=192, verbose=0)
captured = ts.build_efficiency_model(model, "Conv2D", storage_path=sys.argv[1])
captured.predict(x, batch_size=192, verbose=0)
for capture, activation in zip(captured.efficiency_layers, expected, strict=True):
    rows = np.packbits(activation > 0, axis=-1, bitorder="little")
    found = np.asarray(capture.raw_states)
    differing = np.unpackbits(found ^ rows.reshape(found.shape)).sum()
    assert differing <= np.count_nonzero(np.abs(activation) < 1e-5), differing
print("right")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_one_core_is_enough(tmp_path):
    done = run_python(ONE_CORE, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "right"
