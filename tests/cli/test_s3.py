"""The commands on a real server that speaks S3, as programs, with what a user sets to reach it."""

import json

import numpy as np
import pytest

import tensorstate as ts
from tensorstate.storage import LayerInfo, RunWriter
from tests.cli.programs import ARRAY, NET, STREAM_NAME, command, counts_of, expected_counts
from tests.s3 import BUCKET, KEY, SECRET, s3_server


@pytest.fixture(scope="module")
def server():
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True)
def environment(server, monkeypatch):
    server.set_environment(monkeypatch)


def test_captured_resumed_counted_and_verified_without_a_word_of_the_secret(server):
    url = f"s3://{BUCKET}/cli/run.zarr"
    capture = ("capture", NET, STREAM_NAME, "-o", url, "--attach-to", "0", "--json")
    said = [command(*capture, "--limit", 21)]
    said.append(command(*capture, "--resume"))
    assert json.loads(said[-1].stdout)["instances"] == len(ARRAY)
    said += [command(name, "--json", url) for name in ("count", "info", "verify")]
    assert [ended.returncode for ended in said] == [0] * 5, said
    assert counts_of(ts.open_run(url)["0_states"]) == expected_counts(ARRAY)
    refused = [command(*capture), command("info", f"s3://{BUCKET}/nothing")]
    assert [ended.returncode for ended in refused] == [1, 1]
    assert "60 committed instances" in refused[0].stderr
    assert refused[1].stderr == (
        f"tensorstate: there is no run at s3://{BUCKET}/nothing: nothing is there\n"
    )
    printed = "".join(ended.stdout + ended.stderr for ended in said + refused)
    stored = b"".join(key.encode() + server.content(key) for key in server.list_keys())
    for secret in (KEY, SECRET):
        assert secret not in printed
        assert secret.encode() not in stored


def test_what_does_not_fit_is_spilled_to_a_bucket_and_removed(server, tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (2_000_000, 16), dtype=np.uint8)
    writer = RunWriter(tmp_path / "run")
    writer.add_layer("layer", LayerInfo(128, 1))
    writer.put("layer", rows)
    writer.close()
    server.stored.clear()
    spill = ("--memory-limit", "150 MiB", "--spill", f"s3://{BUCKET}/spill")
    ended = command("count", "--json", *spill, tmp_path / "run")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["layers"][0]["distinct"] == len(rows)
    assert "MiB spilled\n" in ended.stderr
    assert any("/spill/" in path for path in server.stored)
    assert server.list_keys("spill/") == []
