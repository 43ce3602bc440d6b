"""Counting on a real cluster: worker processes of their own, joined over the loopback."""

import os

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

from tensorstate.counting import count_states, sources
from tests.clusters import local_cluster
from tests.strategies import as_dict, count_by_hand


@pytest.fixture(scope="module")
def client():
    with local_cluster() as client:
        yield client


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_ROWS", 4000)


@pytest.fixture(scope="module", params=[2, 8, 12, 24])
def rows(request):
    rng = np.random.default_rng(request.param)
    rows = rng.integers(0, 256, (30_000, request.param), dtype=np.uint8)
    rows[rng.random(len(rows)) < 0.3] = rows[0]
    return rows


def test_all_kinds_of_arrays(client, rows, small_blocks, tmp_path):
    width = rows.shape[1]
    expected = count_by_hand(rows)
    on_disk = zarr.create_array(
        tmp_path / "rows.zarr", shape=rows.shape, dtype="uint8", chunks=(1000, width)
    )
    on_disk[...] = rows
    for states in (
        rows,
        on_disk,
        zarr.array(rows, chunks=(1000, width), store={}),
        da.from_array(rows, chunks=(2500, -1)),
        [rows[:10_000], on_disk[10_000:]],
    ):
        assert as_dict(count_states(states), rows) == expected


class ProcessNumber:
    """Rows that tell which process read them."""

    shape, dtype = (20_000, 4), np.dtype(np.uint8)

    def __getitem__(self, rows):
        number = np.array([[os.getpid()]], "<u4").view(np.uint8)
        return np.repeat(number, rows.stop - rows.start, axis=0)


def test_the_work_is_done_by_the_workers(client, small_blocks):
    workers = set(client.run(os.getpid).values())
    assert set(count_states(ProcessNumber()).keys.tolist()) <= workers


def test_saved_histograms_equal_those_of_threads(client, rows, small_blocks, tmp_path):
    count_states(rows).save(tmp_path / "cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK_ROWS", 1 << 20)
        with dask.config.set(scheduler="threads"):
            count_states(rows).save(tmp_path / "threads")
    for path in (tmp_path / "cluster").rglob("*"):
        if path.is_file():
            twin = tmp_path / "threads" / path.relative_to(tmp_path / "cluster")
            assert path.read_bytes() == twin.read_bytes()


def test_an_error_of_a_task_is_raised(client, small_blocks):
    with pytest.raises(ValueError, match="came back as"):
        count_states(Short())


class Short:
    """Claims more rows than it gives."""

    shape, dtype = (10_000, 2), np.dtype(np.uint8)

    def __getitem__(self, rows):
        return np.zeros((3, 2), np.uint8)
