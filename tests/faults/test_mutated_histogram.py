"""Histograms and caches whose files are damaged, at any place and in any way.

A histogram is read as it was saved, or refused with an error of one sentence. A cache is believed
if it is whole, and the states are counted again if it is not: counts are always right.
"""

import shutil
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstate as ts
from tensorstate.counting import StateHistogram, count_states, saving
from tests.faults.harmed import KINDS, harm
from tests.strategies import reproducible


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def rows_of(width, seed):
    return np.random.default_rng(seed).integers(0, 4, (300, width), dtype=np.uint8)


@pytest.fixture(scope="module", params=[3, 12])
def saved(request, tmp_path_factory):
    """Return a histogram of several chunks, where it is saved, and where another one is."""
    folder = tmp_path_factory.mktemp("saved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "CHUNK_ENTRIES", 60)
        for seed in range(2):
            count_states(rows_of(request.param, seed)).save(folder / str(seed))
    return count_states(rows_of(request.param, 0)).sorted(), folder / "0", folder / "1"


@settings(reproducible, max_examples=50)
@given(data=st.data(), kind=st.sampled_from(KINDS), limit=st.sampled_from([None, 1000]))
def test_a_histogram_is_as_it_was_saved_or_refused(data, kind, limit, saved, tmp_path_factory):
    whole, path, other = saved
    copy = tmp_path_factory.mktemp("copy") / "histogram"
    shutil.copytree(path, copy)
    harm(files_of(copy), files_of(other), kind, data.draw)
    try:
        found = StateHistogram.load(copy, memory_limit=limit)
        arrays = [found.keys, found.counts, found.first_rows]
        spectrum = found.spectrum()
    except (ValueError, OSError) as error:
        told = str(error).splitlines()
    else:
        told = ["nothing"]
        for array, expected in zip(
            (*arrays, *spectrum),
            (whole.keys, whole.counts, whole.first_rows, *whole.spectrum()),
            strict=True,
        ):
            assert np.array_equal(array, expected)
    assert len(told) == 1
    assert told[0]
    shutil.rmtree(copy)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return two runs with a cache, and the counts of the first."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for name in ("run", "other"):
        rng = np.random.default_rng(len(name))
        with ts.StateRecorder("layer", folder / name) as recorder:
            recorder.record(rng.normal(size=(600, 2, 10)))
        layer = ts.open_run(folder / name)["layer"]
        found[name] = layer.histogram().sorted()
    return folder, found["run"]


@settings(reproducible, max_examples=50)
@given(
    data=st.data(),
    kind=st.sampled_from([*KINDS, "all of another"]),
    reads=st.sampled_from(["histogram", "spectrum", "entropy"]),
)
def test_a_damaged_cache_changes_no_count(data, kind, reads, runs, tmp_path_factory):
    folder, whole = runs
    path = tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(folder / "run", path)
    cache, other = path / "layer/histogram", folder / "other/layer/histogram"
    if kind == "all of another":
        shutil.rmtree(cache)
        shutil.copytree(other, cache)
    else:
        harm(files_of(cache), files_of(other), kind, data.draw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it is counted again
        for _ in range(2):
            layer = ts.open_run(path)["layer"]
            if reads == "entropy":
                assert layer.entropy() == whole.entropy()
            elif reads == "spectrum":
                found = layer.spectrum()
                assert [f.tolist() for f in found] == [e.tolist() for e in whole.spectrum()]
            assert layer.histogram() == whole
    shutil.rmtree(path)
