"""Rows that are still on their way when they are handed over: in order, bounded, and released."""

import threading

import numpy as np
import pytest
from zarr.storage import MemoryStore

from tensorstate.storage import LayerInfo, RunWriter, open_run
from tests.storage.stores import FailingStore

INFO = LayerInfo(neurons=20, positions=4)


class Later:
    """Rows that are there when a gate is opened, or an error instead."""

    def __init__(self, rows, gate, error=None):
        self.rows, self.gate, self.error = rows, gate, error
        self.released = 0

    nbytes = property(lambda self: self.rows.nbytes)

    def __len__(self):
        return len(self.rows)

    def wait(self):
        assert self.gate.wait(60)
        if self.error:
            raise self.error
        return self.rows

    def release(self):
        self.released += 1
        self.rows = np.zeros_like(self.rows)  # the memory is somebody else's now


def opened():
    gate = threading.Event()
    gate.set()
    return gate


def some_rows(instances, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (instances * INFO.positions, INFO.width), dtype=np.uint8)
    rows[:, -1] &= 0x0F
    return rows


def writer_of(store, **options):
    writer = RunWriter(store, **options)
    writer.add_layer("a", INFO)
    return writer


def test_they_are_written_in_order_among_rows_that_are_there(tmp_path):
    gate, later, expected = threading.Event(), [], []
    writer = writer_of(tmp_path / "run")
    for number in range(20):
        rows = some_rows(30, number)
        expected.append(rows)
        if number % 3:
            later.append(Later(rows, gate))
        writer.put("a", later[-1] if number % 3 else rows)
    flushed = threading.Event()
    thread = threading.Thread(target=lambda: (writer.flush(), flushed.set()))
    thread.start()
    assert not flushed.wait(0.3), "flush did not wait for what is on its way"
    gate.set()
    thread.join()
    np.testing.assert_array_equal(writer.reader("a")[:], np.concatenate(expected))
    assert {one.released for one in later} == {1}
    writer.close()
    assert open_run(tmp_path / "run").instances == 600


def test_putting_waits_only_when_the_queue_is_full():
    gate, put = threading.Event(), []
    writer = writer_of(None, queue_bytes=400_000)
    piece = some_rows(writer.capacity // 4 // 12, 0)

    def put_ten():
        for _ in range(10):
            writer.put("a", Later(piece, gate))
            put.append(1)

    thread = threading.Thread(target=put_ten)
    thread.start()
    try:
        thread.join(1)
        assert len(put) == 4, "as many as there is room for"
    finally:
        gate.set()
        thread.join()
    writer.close()
    np.testing.assert_array_equal(writer.reader("a")[:], np.concatenate([piece] * 10))


def test_an_error_of_the_wait_stops_the_capture_with_its_cause(tmp_path):
    writer = writer_of(tmp_path / "run")
    good = Later(some_rows(5, 0), opened())
    writer.put("a", good)
    writer.flush()
    bad = Later(some_rows(5, 1), opened(), RuntimeError("the device was lost"))
    after = Later(some_rows(5, 2), opened())
    writer.put("a", bad)
    writer.put("a", after)
    says = r"stopped, 5 instances are committed: RuntimeError: the device was lost"
    with pytest.raises(OSError, match=says):
        writer.flush()
    with pytest.raises(OSError, match=says):
        writer.put("a", some_rows(5, 3))
    with pytest.raises(OSError, match=says):
        writer.close()
    assert [one.released for one in (good, bad, after)] == [1, 1, 1]
    np.testing.assert_array_equal(open_run(tmp_path / "run")["a"].raw_states[:], some_rows(5, 0))


def test_what_is_not_written_after_a_failure_is_released_too():
    gate = threading.Event()
    writer = writer_of(FailingStore(MemoryStore(), chunks=1))
    many = [Later(some_rows(40_000, number), gate) for number in range(20)]
    for one in many:
        writer.put("a", one)
    gate.set()
    with pytest.raises(OSError, match="No space left on device"):
        writer.close()
    assert {one.released for one in many} == {1}
