"""Merging histograms that are larger than memory."""

import errno
import gc
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorstate.counting import StateHistogram, count_states, ordered, saving
from tensorstate.counting.files import LocalWriter
from tensorstate.counting.keys import mixed_hash
from tests.counting.limits import files, make_tiny
from tests.storage.metadata import as_before_checksums
from tests.strategies import as_dict, count_by_hand, packed_states, reproducible

KINDS = ["in memory", "in files", "saved", "saved and renumbered"]


def make(kind, rows, add, folder):
    """Return the histogram of rows that are numbered from `add` on."""
    whole = count_states(rows)
    if kind == "saved and renumbered":
        whole.save(folder)
        return StateHistogram.load(folder, memory_limit=1).with_first_rows(lambda n: n + add)
    if kind == "saved":
        whole.with_first_rows(whole.first_rows + add).save(folder)
        return StateHistogram.load(folder, memory_limit=1)
    if kind == "in files":
        for limit in (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18):
            try:
                whole = count_states(rows, memory_limit=limit, spill=folder)
                break
            except ValueError:
                continue
    return whole.with_first_rows(lambda n: n + add)


@settings(reproducible, max_examples=25)
@given(data=st.data())
def test_any_two_kinds_merge_to_the_same_bytes(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merge")
    rows = data.draw(packed_states(most_rows=400))
    cut = data.draw(st.integers(0, len(rows)))
    kinds = [data.draw(st.sampled_from(KINDS)) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch, data.draw(st.integers(1, 100)))
        patch.setattr(saving, "CHUNK_ENTRIES", data.draw(st.integers(1, 80)))
        patch.setattr(ordered, "ENTRIES_AT_ONCE", data.draw(st.integers(1, 80)))
        patch.setattr(ordered, "PART_ENTRIES", data.draw(st.integers(1, 80)))
        early = make(kinds[0], rows[:cut], 0, folder / "early")
        late = make(kinds[1], rows[cut:], cut, folder / "late")
        whole = count_states(rows)
        whole.save(folder / "whole")
        limits = [{}, {"memory_limit": 1, "spill": folder / "spill"}]
        for one, two in ((early, late), (late, early)):
            for limit in limits:
                merged = one.merge(two, **limit)
                assert merged.is_stored == bool(limit)
                assert as_dict(merged, rows) == count_by_hand(rows)
                assert (merged.total, merged.distinct) == (whole.total, whole.distinct)
                assert np.array_equal(merged.spectrum(), whole.spectrum())
                merged.save(folder / "merged")
                assert files(folder / "merged") == files(folder / "whole")
        again = merged.merge(merged, memory_limit=1, spill=folder / "spill")
        assert again == whole.merge(whole)
        assert len(list((folder / "spill").iterdir())) == 2
    del merged, again
    gc.collect()
    assert not list((folder / "spill").iterdir())


@pytest.fixture
def halves(rows):
    return [count_states(rows[::2]), count_states(rows[1::2])]


def test_what_was_merged_in_files(halves, tmp_path):
    whole = halves[0].merge(halves[1])
    merged = halves[0].merge(halves[1], memory_limit="100 kB", spill=tmp_path)
    assert merged.is_stored
    assert merged.sorted() is merged
    assert merged == whole
    hashes = mixed_hash(merged.keys)
    assert (hashes[1:] > hashes[:-1]).all()
    assert int(merged.to_dask()[1].sum().compute(scheduler="threads")) == whole.total
    assert pickle.loads(pickle.dumps(merged)) == whole
    assert len(list(tmp_path.iterdir())) == 1


def test_memory_is_used_where_the_limit_allows(halves, tmp_path):
    entries = sum(half.distinct for half in halves)
    one, two = halves
    for limit, is_stored in ((64 * entries, False), (64 * entries - 1, True)):
        assert one.merge(two, memory_limit=limit, spill=tmp_path).is_stored == is_stored
    one.save(tmp_path / "one")
    lazy = StateHistogram.load(tmp_path / "one", memory_limit=1)
    needed = 32 * (2 * entries + one.distinct)
    for limit, is_stored in ((needed, False), (needed - 1, True)):
        assert lazy.merge(two, memory_limit=limit, spill=tmp_path).is_stored == is_stored
        assert two.merge(lazy, memory_limit=limit, spill=tmp_path).is_stored == is_stored
    with pytest.raises(ValueError, match="of 12 and of 2 bytes cannot be merged"):
        lazy.merge(count_states(np.zeros((1, 2), np.uint8)), memory_limit=1)
    with pytest.raises(ValueError, match="memory_limit is 0"):
        one.merge(two, memory_limit=0)


def test_no_files_are_left_after_a_full_disk(halves, tmp_path, monkeypatch):
    def write(file, array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalWriter, "write", write)
    with pytest.raises(OSError, match=r"the disk of the spill directory .* is full: free"):
        halves[0].merge(halves[1], memory_limit=1, spill=tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_files_are_left_after_damage_is_found(halves, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "CHUNK_ENTRIES", 1000)
    halves[0].save(tmp_path / "saved")
    lazy = StateHistogram.load(tmp_path / "saved", memory_limit=1)
    (tmp_path / "saved" / "first_rows" / "c" / "7").unlink()
    with pytest.raises(ValueError, match="first_rows is damaged: chunk 7 is missing"):
        halves[1].merge(lazy, memory_limit=1, spill=tmp_path / "spill")
    assert not list((tmp_path / "spill").iterdir())


@pytest.mark.parametrize(
    ("is_old", "says"),
    [(False, "is whole, but not the one that was saved"), (True, "are not in canonical order")],
)
def test_chunks_in_another_order_are_found(halves, tmp_path, monkeypatch, is_old, says):
    monkeypatch.setattr(saving, "CHUNK_ENTRIES", 1000)
    halves[0].save(tmp_path / "saved")
    if is_old:
        as_before_checksums(tmp_path / "saved")
    for name in saving.NAMES:
        folder = tmp_path / "saved" / name / "c"
        for old, new in (("3", "x"), ("4", "3"), ("x", "4")):
            (folder / old).rename(folder / new)
    lazy = StateHistogram.load(tmp_path / "saved", memory_limit=1)
    with pytest.raises(ValueError, match=says):
        halves[1].merge(lazy, memory_limit=1, spill=tmp_path / "spill")
    assert not list((tmp_path / "spill").iterdir())


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_keys_of_equal_hashes(at_once, monkeypatch, tmp_path):
    # The first product is zero where a word is the constant that is mixed in.
    monkeypatch.setattr(ordered, "ENTRIES_AT_ONCE", at_once)
    keys = np.array([(0xD6E8FEB86659FD93, number) for number in range(40)], np.uint64)
    others = np.array([(number, 0xA0761D6478BD642F) for number in range(40)], np.uint64)
    keys = np.concatenate([keys, others])
    assert len(set(mixed_hash(keys).tolist())) == 1
    rng = np.random.default_rng(at_once)
    one, two = (np.sort(rng.permutation(80)[:50]) for _ in range(2))
    histograms = [StateHistogram(keys[some], some + 1, some, 16) for some in (one, two)]
    merged = histograms[0].merge(histograms[1], memory_limit=1, spill=tmp_path)
    assert merged.is_stored
    assert merged == histograms[0].merge(histograms[1])
    assert merged.total == sum(histogram.total for histogram in histograms)


MEASURED = """
import sys
from pathlib import Path
import numpy as np
from tensorstate.counting import StateHistogram, count_states

def resident(field):
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
before = resident("VmRSS")
one, two = (StateHistogram.load(folder / name, memory_limit=limit) for name in ("one", "two"))
assert one.is_stored and two.is_stored
merged = one.merge(two, memory_limit=limit, spill=folder)
assert merged.is_stored
merged.save(folder / "merged")
print(merged.distinct, merged.total, resident("VmHWM") - before)
"""


def test_peak_memory_of_loading_merging_and_saving_stays_within_the_limit(tmp_path):
    entries, limit = 7_000_000, 192 << 20
    assert 32 * entries > limit
    for name, start in (("one", 0), ("two", entries // 2)):
        numbers = np.arange(start, start + entries, dtype=np.uint64)
        keys = np.column_stack([numbers * np.uint64(0x9E3779B97F4A7C15), numbers])
        StateHistogram(keys, np.ones(entries), numbers, 16).save(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path, str(limit)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    distinct, total, peak = map(int, done.stdout.split())
    assert (distinct, total) == (3 * entries // 2, 2 * entries)
    assert peak < limit
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "merged"}
    merged = StateHistogram.load(tmp_path / "merged")
    assert merged.spectrum()[1].tolist() == [entries, entries // 2]
    common = merged.first_rows[merged.counts == 2]
    assert (common.min(), common.max()) == (entries // 2, entries - 1)
