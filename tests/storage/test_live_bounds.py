"""Counting live takes no more memory and disk for more rows, measured in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1 << 20
DISTINCT, QUEUE, PIECES = 20_000, 2 * MIB, 128

# Puts pieces of a MiB, and prints the most that memory and disk held, after half of them and
# at the end.
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from tensorstate.storage import LayerInfo, RunWriter
from tests.counting.limits import resident
from tests.storage.test_live_bounds import DISTINCT, MIB, PIECES, QUEUE

path = Path(sys.argv[1]) if len(sys.argv) > 1 else None
rng = np.random.default_rng(0)
pool = rng.integers(0, 256, (DISTINCT, 8), dtype=np.uint8)
writer = RunWriter(path, queue_bytes=QUEUE)
writer.add_layer("layer", LayerInfo(64, 1, histogram="live"))
disk, found = 0, []

def size(file):
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0

for number in range(PIECES):
    writer.put("layer", pool[rng.integers(0, DISTINCT, MIB // 8)])
    if path is not None:
        disk = max(disk, sum(map(size, path.rglob("*"))))
    if number + 1 in (PIECES // 2, PIECES):
        found.append(resident("VmHWM"))
writer.close()
print(json.dumps({"memory": found, "disk": disk}))
"""


@pytest.mark.parametrize("stored", [True, False], ids=["on disk", "in memory"])
def test_more_rows_take_no_more_room(tmp_path, stored):
    path = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *([str(path)] if stored else [])],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        # So that the heap's holes, which are free but not given back, are not taken for rows.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 18)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    early, late = found["memory"]
    # The rows of the second half, which would stay there, take 64 MiB.
    assert late - early <= 8 * MIB
    if stored:
        # 16 chunks wait, one is written, and the histogram of 24 bytes a state is there twice.
        assert 8 * MIB < found["disk"] <= 17 * QUEUE // 2 + 2 * 24 * DISTINCT + MIB
        assert sum(file.stat().st_size for file in path.rglob("*")) <= 24 * DISTINCT + MIB
