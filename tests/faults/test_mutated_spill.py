"""Spill files that are damaged between the phases of a count, or before its result is read.

What comes out is right, or is an error of one sentence: never another number, a crash or a hang,
and no more memory than the limit allows.
"""

import shutil
from pathlib import Path

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorstate.counting import count_states, out_of_core, spill_files
from tensorstate.counting.pages import blocks
from tensorstate.counting.spill import PREFIX
from tests.counting.limits import make_tiny
from tests.faults.harmed import KINDS, harm
from tests.strategies import as_dict, count_by_hand, reproducible

LIMIT = 50_000
MOST_BYTES = 8 << 20


def rows_of(width, seed):
    """Return states of which most are new and one is frequent, so that files have both pieces."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (6000, width), dtype=np.uint8)
    rows[rng.random(len(rows)) < 0.4] = 7
    rows[:2000] = rows[rng.integers(0, 10, 2000)]
    return rows


def folder_of(place):
    (folder,) = (path for path in Path(place).iterdir() if path.name.startswith(PREFIX))
    return folder


def files_of(folder):
    return sorted(path for path in folder.iterdir() if path.name.startswith(("block", "counted")))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Return folders of spill files of other counts, by the width of their states."""
    found = {}
    for width in (3, 12):
        place = tmp_path_factory.mktemp("other")
        with pytest.MonkeyPatch.context() as patch:
            make_tiny(patch)
            kept = count_states(rows_of(width, 1), memory_limit=LIMIT, spill=place)
        shutil.copytree(folder_of(place), place / "files")
        del kept
        found[width] = place / "files"
    return found


def bounded(size):
    assert size <= MOST_BYTES, f"{size} bytes are asked for"
    return blocks(size)


@settings(reproducible, max_examples=150)
@given(
    data=st.data(),
    kind=st.sampled_from(KINDS),
    width=st.sampled_from([3, 12]),
    when=st.sampled_from(["between the phases", "before the result is read"]),
)
def test_what_comes_out_is_right_or_an_error(data, kind, width, when, others, tmp_path_factory):
    place = tmp_path_factory.mktemp("spill")
    rows = rows_of(width, 0)
    harmed = []

    def harm_once():
        if not harmed:
            harmed.append(kind)
            harm(files_of(folder_of(place)), files_of(others[width]), kind, data.draw)

    merge = out_of_core.merge_partitions

    def harm_and_merge(*arguments):
        if when == "between the phases":
            harm_once()
        return merge(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch, data.draw(st.sampled_from([40, 2000])))
        patch.setattr(out_of_core, "merge_partitions", harm_and_merge)
        patch.setattr(spill_files, "blocks", bounded)
        patch.setattr("tensorstate.counting.pieces.blocks", bounded)
        try:
            with dask.config.set(scheduler="synchronous"):
                found = count_states(rows, memory_limit=LIMIT, spill=place)
            if found.is_stored:
                harm_once()
            counted = as_dict(found, rows)
            spectrum = found.spectrum()
        except OSError as error:
            text = str(error)
            assert "spill file" in text
            assert "\n" not in text
            assert text.count(": ") >= 1
        else:
            assert counted == count_by_hand(rows)
            assert int(spectrum[0] @ spectrum[1]) == len(rows)
    assert harmed


def test_a_count_that_meets_damage_leaves_no_files(tmp_path, monkeypatch):
    make_tiny(monkeypatch)
    merge, harmed = out_of_core.merge_partitions, []

    def harm_and_merge(*arguments):
        if not harmed:
            path = folder_of(tmp_path) / "block-1"
            content = bytearray(path.read_bytes())
            content[4096 * (1 + len(content) // 8192)] ^= 1
            path.write_bytes(content)
            harmed.append(path)
        return merge(*arguments)

    monkeypatch.setattr(out_of_core, "merge_partitions", harm_and_merge)
    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(OSError, match=r"spill file .*block-1 does not hold what was written"),
    ):
        count_states(rows_of(12, 0), memory_limit=LIMIT, spill=tmp_path)
    assert not list(tmp_path.iterdir())
