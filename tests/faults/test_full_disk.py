"""A disk that is really full: a small file system in memory, which only this test sees."""

import json
import subprocess
import sys

import pytest

MEGABYTES = 2  # the run takes 60 % of them, and what the count spills would take 250 %

COUNTED = f"""
import errno, json, sys
from pathlib import Path
import numpy as np, pytest
from tensorstate.counting import count_states
from tensorstate.storage import LayerInfo, RunWriter, open_run
from tests.counting.limits import make_tiny

disk = Path(sys.argv[1])
rows = np.random.default_rng(0).integers(0, 256, ({MEGABYTES} * 50_000, 12), dtype=np.uint8)
writer = RunWriter(disk / "run", queue_bytes=64 << 10)
writer.add_layer("layer", LayerInfo(96, 1))
writer.put("layer", rows)
writer.close()
make_tiny(pytest.MonkeyPatch())
layer = open_run(disk / "run")["layer"]
try:
    layer.histogram(memory_limit=1_000_000, spill=disk / "spill")
except OSError as error:
    told = [error.errno == errno.ENOSPC, str(error)]
else:
    raise SystemExit("the count did not fill the disk")
left = [path.name for path in (disk / "spill").iterdir()]
layer = open_run(disk / "run")["layer"]
assert np.array_equal(layer.raw_states, rows)
assert layer.histogram() == count_states(rows)
print(json.dumps([*told, left]))
"""


@pytest.fixture
def on_small_disk(tmp_path):
    """Return what runs a script with a full disk at hand, or skip where nothing may be mounted."""
    script = f'mount -t tmpfs -o size={MEGABYTES}m tmpfs "$1" && shift && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(tmp_path)]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {getattr(error, 'stderr', error)}")
    return [*command, sys.executable, "-c", COUNTED, str(tmp_path)]


def test_a_full_disk_leaves_the_run_and_nothing_else(on_small_disk, tmp_path):
    done = subprocess.run(on_small_disk, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    is_full, says, left = json.loads(done.stdout.splitlines()[-1])
    assert is_full
    assert f"the disk of the spill directory {tmp_path}/spill" in says
    assert "is full: free" in says
    assert left == []
