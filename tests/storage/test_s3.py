"""Runs on a real server that speaks S3: all that is done with a run on a disk."""

import io
import logging
import os
import subprocess
import sys
import traceback

import fsspec
import numpy as np
import pytest
from zarr.storage import FsspecStore

import tensorstate as ts
from tensorstate.storage import DamagedChunkError, LayerInfo, RunWriter, open_run
from tensorstate.storage import format as store_format
from tensorstate.storage.remote import RemoteStore
from tests.s3 import BUCKET, KEY, SECRET, s3_server

pytestmark = pytest.mark.timeout(120)

INSTANCES = 120
ACTIVATIONS = np.random.default_rng(0).normal(size=(INSTANCES, 30, 12))


@pytest.fixture(scope="module")
def server():
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True)
def environment(server, monkeypatch):
    server.set_environment(monkeypatch)


@pytest.fixture
def url(request):
    return f"s3://{BUCKET}/{request.node.name}/run.zarr"


def record(url, start=0, stop=INSTANCES, **options):
    with ts.StateRecorder("layer", url, **options) as recorder:
        for first in range(start, stop, 20):
            recorder.record(ACTIVATIONS[first : min(first + 20, stop)])


def expected(stop=INSTANCES):
    recorder = ts.StateRecorder("layer")
    recorder.record(ACTIVATIONS[:stop])
    return np.asarray(recorder.raw_states)


def check(url, stop=INSTANCES):
    run = open_run(url)
    assert run.instances == stop
    np.testing.assert_array_equal(np.asarray(run["layer"].raw_states), expected(stop))
    assert run["layer"].histogram() == ts.count_states(expected(stop))
    assert len(run.verify()) == 0


def write_chunks(url, parts=2, instances=40):
    """Write parts of several chunks each; return the rows of all."""
    rows = np.random.default_rng(1).integers(0, 99, (parts * instances * 1000, 16), np.uint8)
    each = len(rows) // parts
    for part in range(parts):
        writer = RunWriter(url, part=part, first_instance=part * instances, queue_bytes=100_000)
        writer.add_layer("layer", LayerInfo(128, 1000))
        writer.put("layer", rows[part * each : (part + 1) * each])
        writer.close()
    return rows


def test_capture_resume_and_overwrite(url, server):
    record(url, 0, 50)
    check(url, 50)
    with pytest.raises(FileExistsError, match="already holds a run with 50 committed instances"):
        ts.StateRecorder("layer", url)
    record(url, 50, mode="resume")
    check(url)
    assert any("/histogram/" in key for key in server.list_keys()), "the count is not cached"
    record(url, 0, 30, mode="w")
    check(url, 30)


def test_several_parts_and_one_that_somebody_else_adds(url):
    record(url, 0, 40, part=0, first_instance=0)
    assert open_run(url).parts == {"0": range(40)}
    # Another file system, as another process has it: it cannot tell ours what it changed.
    other = FsspecStore.from_url(url, storage_options={"skip_instance_cache": True})
    record(other, 40, 80, part="b", first_instance=40)
    assert open_run(url).parts == {"0": range(40), "b": range(40, 80)}
    assert len(open_run(other).parts) == 2
    record(url, 80, part="c", first_instance=80)
    assert len(open_run(other).parts) == 3
    check(url)
    with pytest.raises(FileExistsError, match="part 'b' with 40 committed"):
        ts.StateRecorder("layer", url, part="b", first_instance=40)


def test_of_two_that_create_a_run_one_does(url, monkeypatch):
    async def not_yet(store, key):
        return False

    # As if both had found nothing there, and then began to write.
    monkeypatch.setattr(RemoteStore, "exists", not_yet)
    first = store_format.join_run(url).attrs["tensorstate"]["uuid"]
    assert store_format.join_run(url).attrs["tensorstate"]["uuid"] == first


def test_damage_is_found_and_what_is_whole_is_salvaged(url, server):
    rows = write_chunks(url)
    chunks = [key for key in server.list_keys(url.removeprefix(f"s3://{BUCKET}/")) if "/c/" in key]
    assert len(chunks) > 10
    missing, damaged = (f"part-{part}/states/c/{chunk}/0" for part, chunk in ((0, 1), (1, 2)))
    prefix = url.removeprefix(f"s3://{BUCKET}/") + "/layer/"
    server.client().delete_object(Bucket=BUCKET, Key=prefix + missing)
    content = bytearray(server.content(prefix + damaged))
    content[50] ^= 4
    server.client().put_object(Bucket=BUCKET, Key=prefix + damaged, Body=bytes(content))

    run = open_run(url)
    run.set_labels(np.arange(80) % 3)
    with pytest.raises(DamagedChunkError, match=r"part 0, chunk 1 .*is missing"):
        run["layer"].counts()
    damage = run.verify()
    assert damage[["part", "chunk"]].to_numpy().tolist() == [["0", 1], ["1", 2]]
    salvaged = run.salvage(f"{url}-whole")
    lost = {
        instance
        for first, last in damage[["first_instance", "last_instance"]].to_numpy()
        for instance in range(first, last + 1)
    }
    whole = [instance for instance in range(80) if instance not in lost]
    assert 0 < len(whole) < 80
    assert sorted(instance for part in salvaged.parts.values() for instance in part) == whole
    np.testing.assert_array_equal(
        np.asarray(salvaged["layer"].raw_states),
        rows.reshape(80, 1000, 16)[whole].reshape(-1, 16),
    )
    assert salvaged.labels.tolist() == (np.arange(whole[-1] + 1) % 3).tolist()
    assert len(salvaged.verify()) == 0


def test_a_chunk_takes_few_requests(url, server):
    """Each takes as long as a small chunk: one to read it, and two to write and commit it."""
    server.requests.clear()
    write_chunks(url, parts=1)
    written = [*server.requests]
    chunks = len({path for _, path in written if "/c/" in path})
    assert chunks > 5
    assert all(method == "PUT" for method, path in written if "/c/" in path)
    # The run is opened, and its instances are committed now and then.
    assert len(written) <= 2 * chunks + 35

    run = open_run(url)
    for read in (lambda: run["layer"].raw_states[:], run.verify):
        server.requests.clear()
        read()
        asked = [(method, path) for method, path in server.requests if "/states/c/" in path]
        assert len(asked) == len(set(asked)) == chunks
        assert {method for method, _ in asked} == {"GET"}
        assert len(server.requests) <= chunks + 5
    server.requests.clear()
    run["layer"].histogram()
    assert sum("/states/c/" in path for _, path in server.requests) == chunks
    # What is kept of the count takes as many for a large run.
    assert len(server.requests) <= chunks + 90


def test_labels(url):
    record(url)
    open_run(url).set_labels(["cat", "dog", "bird"] * 40)
    assert open_run(url).labels.tolist() == ["cat", "dog", "bird"] * 40
    summary = open_run(url)["layer"].label_summary()
    assert sorted(summary.index) == ["bird", "cat", "dog"]


def test_a_lost_connection_leaves_the_committed_prefix(url, server):
    recorder = ts.StateRecorder("layer", url)
    recorder.record(ACTIVATIONS[:40])
    recorder.flush()
    server.stop()
    try:
        recorder.record(ACTIVATIONS[40:80])
        with pytest.raises(OSError, match=r"stopped, 40 instances are committed: .*run\.zarr"):
            recorder.flush()
        with pytest.raises(OSError, match="40 instances are committed"):
            recorder.record(ACTIVATIONS[80:])
        with pytest.raises(OSError, match=r"run\.zarr cannot be used .*check the URL, the conn"):
            open_run(url)
    finally:
        server.start()
    with pytest.raises(OSError, match="40 instances are committed"):
        recorder.close()
    check(url, 40)
    record(url, 40, mode="resume")
    check(url)


def test_a_connection_that_is_lost_while_states_are_read(url, server):
    record(url)
    run = open_run(url)
    server.stop()
    try:
        with pytest.raises(OSError, match=r"run\.zarr cannot be used") as raised:
            run["layer"].counts()
        assert not isinstance(raised.value, DamagedChunkError)
        with pytest.raises(OSError, match=r"run\.zarr cannot be used"):
            run.verify()
    finally:
        server.start()


@pytest.mark.parametrize("use", [open_run, lambda url: ts.StateRecorder("layer", url)])
def test_a_bucket_that_is_not_there(use):
    with pytest.raises(FileNotFoundError, match=r"^s3://nowhere/run .*does not exist.*check"):
        use("s3://nowhere/run")


def test_nothing_in_the_bucket():
    with pytest.raises(FileNotFoundError, match=f"no run at s3://{BUCKET}/nothing"):
        open_run(f"s3://{BUCKET}/nothing")


@pytest.mark.parametrize("use", [open_run, lambda url: ts.StateRecorder("layer", url)])
def test_no_credentials(use, monkeypatch, server):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    before = server.list_keys()
    with pytest.raises(OSError, match=r"run cannot be used .*credentials in the environment"):
        use(f"s3://{BUCKET}/run")
    assert server.list_keys() == before


def test_credentials_in_the_configuration_of_fsspec(url, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"key": KEY, "secret": SECRET})
    record(url)
    check(url)


def test_a_store_that_was_made_with_options(url, server):
    options = {"key": KEY, "secret": SECRET, "endpoint_url": server.address}
    store = FsspecStore.from_url(url, storage_options=options)
    record(store)
    check(store)
    assert SECRET not in repr(open_run(store))


def test_the_secret_is_nowhere(server, capfd, caplog, recwarn):
    """Neither in what is stored nor in what is said, whatever goes wrong."""
    url = f"s3://{BUCKET}/secret/run"
    caplog.set_level(logging.DEBUG, logger="tensorstate")
    said = io.StringIO()

    def attempt(act, *arguments, **options):
        try:
            print(repr(act(*arguments, **options)), file=said)
        except Exception:
            traceback.print_exc(file=said)

    attempt(record, url)
    attempt(open_run, url)
    attempt(open_run(url).summary)
    attempt(open_run(url)._repr_html_)
    attempt(record, url)
    attempt(open_run, "s3://nowhere/run")
    attempt(open_run, f"ftp://me:{SECRET}@127.0.0.1:1/run")
    attempt(open_run, f"nothing://me:{SECRET}@host/run")
    attempt(record, f"http://me:{SECRET}@127.0.0.1:1/run?X-Amz-Signature={SECRET}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    info = [sys.executable, "-m", "tensorstate", "info", url]
    subprocess.run(info, env=environment, check=True, timeout=60)
    server.stop()
    attempt(open_run, url)
    attempt(record, url, mode="resume")
    server.start()

    written = b"".join(key.encode() + server.content(key) for key in server.list_keys())
    printed = "".join(capfd.readouterr()) + said.getvalue() + caplog.text
    printed += "".join(str(warning.message) for warning in recwarn)
    assert "cannot be used" in printed
    assert b"tensorstate" in written
    assert SECRET not in printed
    assert SECRET.encode() not in written
    assert KEY.encode() not in written
