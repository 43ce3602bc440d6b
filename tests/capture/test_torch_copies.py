"""Packed states that reach the host later: right, in order, bounded, and with their errors.

Where there is no GPU, threads copy between tensors of the host, as a device does in its own time.
"""

import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstate as ts
from tensorstate.capture.torch import record_tensor
from tensorstate.capture.torch_copies import BufferPool, CudaStream, DeviceBatch, DeviceCopies

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


class ThreadStream:
    """Copies in the order of the calls, on a thread, when a gate is open."""

    def __init__(self, gate=None, seconds=0.0, error=None):
        self.gate, self.seconds, self.error = gate, seconds, error
        self.thread = ThreadPoolExecutor(1)
        self.made = []

    def buffer(self, size):
        self.made.append(size)
        return torch.full((size,), 255, dtype=torch.uint8)

    def copy(self, *pairs):
        def copy_all():
            if self.gate is not None:
                assert self.gate.wait(60)
            time.sleep(self.seconds)
            if self.error is not None:
                raise self.error
            for source, target in pairs:
                target.copy_(source)

        return self.thread.submit(copy_all).result


def activations(instances, seed=0, neurons=13):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(instances, 4, neurons, generator=generator)


def record(recorder, copies, x):
    recorder.record_batch(DeviceBatch(x, copies, recorder.note_nans))


def packed(x):
    rows = np.packbits(x.numpy() > 0, axis=-1, bitorder="little")
    return rows.reshape(-1, rows.shape[-1])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=12),
    st.sampled_from([3000, 60_000, 10_000_000]),
)
def test_states_equal_those_that_are_packed_on_the_host(sizes, queue_bytes):
    batches = [activations(size, seed) for seed, size in enumerate(sizes)]
    recorder = ts.StateRecorder("a", queue_bytes=queue_bytes)
    copies = DeviceCopies(ThreadStream(), queue_bytes)
    for x in batches:
        record(recorder, copies, x)
    assert recorder.state_count == 4 * sum(sizes)
    expected = np.concatenate([packed(x) for x in batches])
    np.testing.assert_array_equal(recorder.raw_states[:], expected)


def test_buffers_outlive_the_mode_of_a_pass():
    copies, recorder = DeviceCopies(ThreadStream(), 1 << 20), ts.StateRecorder("a")
    for seed in range(6):
        with torch.inference_mode(seed % 2 == 0):
            record(recorder, copies, activations(50, seed))
        recorder.flush()
    expected = np.concatenate([packed(activations(50, seed)) for seed in range(6)])
    np.testing.assert_array_equal(recorder.raw_states[:], expected)


def test_the_model_goes_on_while_states_are_copied_and_a_flush_waits():
    gate = threading.Event()
    copies, recorder = DeviceCopies(ThreadStream(gate), 1 << 20), ts.StateRecorder("a")
    for seed in range(20):
        record(recorder, copies, activations(50, seed))
    assert recorder.state_count == 20 * 200
    flushed = threading.Event()
    thread = threading.Thread(target=lambda: (recorder.flush(), flushed.set()))
    thread.start()
    assert not flushed.wait(0.3)
    gate.set()
    thread.join()
    expected = np.concatenate([packed(activations(50, seed)) for seed in range(20)])
    np.testing.assert_array_equal(recorder.raw_states[:], expected)


def test_the_model_waits_when_the_queue_is_full_and_buffers_are_bounded():
    stream = ThreadStream(seconds=0.001)
    recorder = ts.StateRecorder("a", queue_bytes=20_000)
    capacity = recorder.run.capacity
    copies = DeviceCopies(stream, capacity)
    for seed in range(200):
        record(recorder, copies, activations(250, seed))
    expected = np.concatenate([packed(activations(250, seed)) for seed in range(200)])
    np.testing.assert_array_equal(recorder.raw_states[:], expected)
    pieces = 200 * 250 * 4 * 2 / recorder.run.piece_bytes
    assert sum(stream.made) <= 4 * capacity
    assert len(stream.made) < pieces / 4, "buffers are not used again"


def test_buffers_of_one_size_are_made_once():
    stream = ThreadStream()
    copies, recorder = DeviceCopies(stream, 1 << 20), ts.StateRecorder("a")
    for seed in range(50):
        record(recorder, copies, activations(60, seed))
        recorder.flush()
    assert len(stream.made) == 1


def test_an_error_of_a_copy_stops_the_capture_with_its_cause(tmp_path):
    recorder = ts.StateRecorder("a", tmp_path / "run")
    record(recorder, DeviceCopies(ThreadStream(), 1 << 20), activations(30))
    recorder.flush()
    broken = DeviceCopies(ThreadStream(error=RuntimeError("CUDA error: lost")), 1 << 20)
    record(recorder, broken, activations(30, 1))
    with pytest.raises(OSError, match="30 instances are committed: RuntimeError: CUDA error: lost"):
        recorder.flush()
    with pytest.raises(OSError, match="CUDA error: lost"):
        record(recorder, broken, activations(30, 2))
    with pytest.raises(OSError, match="CUDA error: lost"):
        recorder.close()
    stored = ts.open_run(tmp_path / "run")["a"].raw_states[:]
    np.testing.assert_array_equal(stored, packed(activations(30)))


def test_nan_is_warned_of_when_it_is_known():
    copies, recorder = DeviceCopies(ThreadStream(), 1 << 20), ts.StateRecorder("a")
    x = activations(30)
    x[3, 1, 2:7] = torch.nan
    record(recorder, copies, x)
    with pytest.warns(RuntimeWarning, match="'a' met 5 NaN activations"):
        recorder.flush()
    np.testing.assert_array_equal(recorder.raw_states[:], packed(x))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.integers(1, 1000), st.none()), max_size=60), st.integers(0, 3000))
def test_a_pool_lends_what_nobody_else_has_and_keeps_no_more_than_its_limit(steps, limit):
    pool = BufferPool(lambda size: torch.empty(size, dtype=torch.uint8), limit)
    lent = []
    for size in steps:
        if size is not None:
            buffer = pool.take(size)
            assert size <= len(buffer) <= 2 * size
            assert all(buffer.data_ptr() != other.data_ptr() for other in lent)
            lent.append(buffer)
        elif lent:
            pool.give_back(lent.pop(0))
        assert sum(map(len, pool._free)) == pool._bytes <= limit


@needs_cuda
def test_a_stream_copies_from_a_gpu_beside_its_computations():
    stream = CudaStream(torch.device("cuda", torch.cuda.current_device()))
    x = torch.arange(1 << 20, device="cuda") % 251
    source = x.to(torch.uint8)
    target = stream.buffer(len(source))
    assert target.is_pinned()
    stream.copy((source, target))()
    np.testing.assert_array_equal(target.numpy(), x.cpu().numpy())


@needs_cuda
@pytest.mark.parametrize("threshold", [0.0, 0.25, np.linspace(-1, 1, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_model_on_a_gpu_is_recorded_as_on_the_host(threshold, dtype, tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 20, 3), torch.nn.ReLU()).to("cuda", dtype)
    plain = copy.deepcopy(model[0])
    ts.build_efficiency_model(
        model, "Conv2d", threshold=threshold, storage_path=tmp_path / "run", queue_bytes=100_000
    )
    host = ts.StateRecorder("host", threshold=threshold, channel_axis=1)
    with torch.inference_mode():
        for seed in range(10):
            generator = torch.Generator().manual_seed(seed)
            x = torch.randn(16, 3, 32, 32, generator=generator).to("cuda", dtype)
            model(x)
            record_tensor(host, plain(x).cpu(), "the output")
    ts.remove_state_layers(model)
    rows = ts.open_run(tmp_path / "run")["0_states"].raw_states[:]
    np.testing.assert_array_equal(rows, host.raw_states[:])


@needs_cuda
def test_a_cuda_graph_is_refused():
    model = ts.build_efficiency_model(torch.nn.Sequential(torch.nn.ReLU()).cuda(), "ReLU")
    x = torch.randn(8, 6, device="cuda")
    with (
        pytest.raises(ValueError, match="goes into a CUDA graph"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        model(x)
