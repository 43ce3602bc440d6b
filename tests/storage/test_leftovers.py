"""What a killed writer left is removed by the next one of the same part, and nothing else is."""

import shutil

import numpy as np
import pytest

from tensorstate.counting import count_states
from tensorstate.storage import LayerInfo, RunWriter, open_run

INFO = LayerInfo(16, None)
LENGTHS = np.full(200, 1000)
ROWS = np.random.default_rng(0).integers(0, 256, (200_000, 2), dtype=np.uint8)


def write(path, instances, first=0, **options):
    """Write instances one after the other, in chunks of 32,768 rows."""
    writer = RunWriter(path, queue_bytes=1, **options)
    writer.add_layer("layer", INFO)
    for n in range(first, instances):
        writer.put("layer", ROWS[1000 * n : 1000 * (n + 1)], LENGTHS[n : n + 1])
    writer.close()


def names(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


LEFT = [
    *("{part}/zarr.0.partial", "{part}/states/zarr.1.partial", "{part}/states/c/1/0.2.partial"),
    *("{part}/states/c/2/0", "{part}/states/c/2/0.3.partial", "{part}/states/c/3/0.4.partial"),
    *("{part}/offsets/zarr.5.partial", "{part}/offsets/c/0.6.partial"),
    *("{part}/digests/states/0/0.7.partial", "{part}/digests/offsets/1/3.8.partial"),
]
ALONE = ["zarr.9.partial", "layer/zarr.10.partial", ".removed-1/zarr.json"]


def leave(path, part):
    for name in [*LEFT, *(ALONE if part == "0" else [])]:
        file = path / name.format(part=f"layer/part-{part}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"cut short")


@pytest.mark.parametrize("options", [{}, {"part": 3, "first_instance": 0}], ids=["alone", "part"])
def test_a_resumed_writer_removes_what_was_left(tmp_path, options):
    part = str(options.get("part", 0))
    write(tmp_path / "whole", 40, **options)
    write(tmp_path / "run", 40, **options)
    before = names(tmp_path / "run")
    assert before == names(tmp_path / "whole")
    leave(tmp_path / "run", part)
    write(tmp_path / "run", 40, first=40, mode="resume", **options)
    assert names(tmp_path / "run") == before
    assert np.array_equal(open_run(tmp_path / "run")["layer"].raw_states, ROWS[:40_000])
    write(tmp_path / "run", 200, first=40, mode="resume", **options)
    assert np.array_equal(open_run(tmp_path / "run")["layer"].raw_states, ROWS)


def test_resetting_leaves_no_chunk(tmp_path):
    writer = RunWriter(tmp_path / "run", queue_bytes=1)
    writer.add_layer("layer", INFO)
    writer.put("layer", ROWS[:80_000], LENGTHS[:80])
    writer.flush()
    assert any((tmp_path / "run/layer/part-0/states/c").iterdir())
    leave(tmp_path / "run", "1")
    others = names(tmp_path / "run/layer/part-1")
    writer.reset("layer")
    assert not any((tmp_path / "run/layer/part-0/states/c").iterdir())
    assert names(tmp_path / "run/layer/part-1") == others
    writer.close()


def test_what_links_lead_to_stays(tmp_path):
    write(tmp_path / "run", 40)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.partial").write_bytes(b"mine")
    digests = tmp_path / "run/layer/part-0/digests"
    shutil.rmtree(digests, ignore_errors=True)
    digests.symlink_to(tmp_path)
    (tmp_path / "run/layer/part-0/states/c/2").symlink_to(elsewhere)
    write(tmp_path / "run", 40, first=40, mode="resume")
    assert names(elsewhere) == ["mine.partial"]


def test_a_live_capture_goes_on_after_a_kill_while_its_folder_was_made(tmp_path):
    info = LayerInfo(16, 1, histogram="live")
    for first in range(2):
        writer = RunWriter(tmp_path / "run", mode="resume")
        writer.add_layer("layer", info)
        writer.put("layer", ROWS[1000 * first : 1000 * (first + 1)])
        writer.close()
        (tmp_path / "run/layer/part-0/counted/zarr.1.partial").write_bytes(b"cut short")
    assert open_run(tmp_path / "run")["layer"].histogram() == count_states(ROWS[:2000])
    writer = RunWriter(tmp_path / "run", mode="resume")
    writer.add_layer("layer", info)
    writer.close()
    assert not [*(tmp_path / "run").rglob("*.partial")]
