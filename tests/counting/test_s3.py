"""Counting a run on S3 by worker processes that spill to S3."""

import gc

import numpy as np
import pytest

from tensorstate.counting import count_states
from tensorstate.storage import LayerInfo, RunWriter, open_run
from tests.clusters import local_cluster
from tests.counting.limits import make_tiny
from tests.s3 import BUCKET, s3_server

pytestmark = pytest.mark.timeout(120)

LIMIT = 300_000


@pytest.fixture(scope="module")
def server():
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        server.set_environment(patch)
        yield server


@pytest.fixture(autouse=True)
def small(monkeypatch):
    make_tiny(monkeypatch, rows_per_partition=6000)


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).integers(0, 4, (12_000, 12), dtype=np.uint8)


def count(url, **options):
    return open_run(url)["layer"].histogram(**options)


def test_on_a_cluster(server, rows):
    url = f"s3://{BUCKET}/run"
    writer = RunWriter(url, queue_bytes=100_000)
    writer.add_layer("layer", LayerInfo(96, 10))
    writer.put("layer", rows)
    writer.close()
    expected = count_states(rows)
    with local_cluster():
        found = count(url, memory_limit=LIMIT, spill=f"s3://{BUCKET}/spill")
        assert found.is_stored
        assert found == expected
        del found
        gc.collect()
    assert any(path.startswith(f"{BUCKET}/spill/") for path in server.stored)
    assert not server.list_keys("spill/")


def test_a_bucket_for_spill_that_is_not_there(rows, server):
    with pytest.raises(OSError, match=r"s3://nowhere/spill\S* cannot be used .*not exist"):
        count_states(rows, memory_limit=LIMIT, spill="s3://nowhere/spill")
    assert [bucket["Name"] for bucket in server.client().list_buckets()["Buckets"]] == [BUCKET]


def test_a_connection_that_is_lost_before_files_are_read(rows, server):
    held = [count_states(rows, memory_limit=LIMIT, spill=f"s3://{BUCKET}/lost")]
    assert held[0].is_stored

    def forget():
        held.clear()
        gc.collect()

    server.stop()
    try:
        with pytest.raises(OSError, match=r"s3://states/lost\S* cannot be used"):
            held[0].keys  # noqa: B018  (the look-up is the test)
        with pytest.warns(RuntimeWarning, match="spill files are left"):
            forget()
    finally:
        server.start()
