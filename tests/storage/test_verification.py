"""Damage is found where it was done, and what is whole comes through."""

import json
import shutil
import subprocess
import sys

import dask
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

import tensorstate as ts
from tensorstate.storage import LayerInfo, open_run
from tensorstate.storage import format as store_format
from tensorstate.storage.part_writer import PartWriter
from tests.storage.metadata import as_before_checksums, set_attributes
from tests.strategies import reproducible, seeds

POSITIONS = {"a": 3, "b": 1}
CHUNK = {"a": 10, "b": 7}


def write(store, instances, seed=0, parts=((0, None),)):
    """Write a run of two layers with small chunks; return the rows of each layer and part."""
    run = store_format.create_run(store)
    rng = np.random.default_rng(seed)
    written = {}
    for index, (name, positions) in enumerate(POSITIONS.items()):
        info = LayerInfo(20, positions, index=index)
        layer = store_format.create_layer(run, name, info)
        for part, first in parts:
            rows = rng.integers(0, 16, (instances * positions, 3), dtype=np.uint8)
            array = store_format.create_part(layer, str(part), 3, CHUNK[name], "lz4", first)
            writer = PartWriter(array, "here", positions)
            writer.append(rows)
            writer.flush()
            writer.commit_instances(instances, POSITIONS)
            written[name, first or 0] = rows
    if parts == ((0, None),):
        set_attributes(run, instances=instances)
    return written


def chunk_file(path, layer, chunk, part=0):
    return path / layer / f"part-{part}" / "states" / "c" / str(chunk) / "0"


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_a_whole_run(tmp_path, scheduler):
    write(tmp_path / "run", 50)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        damage = open_run(tmp_path / "run").verify()
    assert len(damage) == 0
    assert list(damage.columns) == [
        "layer",
        "part",
        "chunk",
        "first_instance",
        "last_instance",
        "problem",
    ]


@reproducible
@given(
    instances=st.integers(1, 60),
    broken=st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, 20)), max_size=4),
    seed=seeds,
)
def test_what_no_damage_touches_is_salvaged(tmp_path_factory, instances, broken, seed):
    folder = tmp_path_factory.mktemp("salvage")
    written = write(folder / "run", instances, seed)
    lost = np.zeros(instances, np.bool_)
    expected = set()
    for layer, chunk in sorted(broken):
        rows = np.arange(chunk * CHUNK[layer], (chunk + 1) * CHUNK[layer])
        rows = rows[rows < instances * POSITIONS[layer]]
        if len(rows):
            chunk_file(folder / "run", layer, chunk).unlink()
            numbers = rows // POSITIONS[layer]
            lost[numbers] = True
            expected.add((layer, "0", chunk, numbers[0], numbers[-1]))
    run = open_run(folder / "run")
    damage = run.verify()
    assert set(damage.iloc[:, :5].itertuples(index=False, name=None)) == expected
    assert all("is missing from the store" in problem for problem in damage["problem"])
    if lost.all():
        with pytest.raises(ValueError, match="no instance that is whole in every layer"):
            run.salvage(folder / "new")
        return
    new = run.salvage(folder / "new")
    assert new.instances == (~lost).sum()
    assert len(new.verify()) == 0
    for layer, positions in POSITIONS.items():
        each = written[layer, 0].reshape(instances, positions, 3)
        np.testing.assert_array_equal(new[layer].raw_states[:], each[~lost].reshape(-1, 3))
        number = int(np.flatnonzero(~lost)[-1])
        counts = new[layer].histogram([number])
        assert counts == ts.count_states(each[number]).with_first_rows(counts.first_rows)
    shutil.rmtree(folder)


@settings(reproducible, max_examples=12)
@given(
    lengths=st.lists(st.integers(0, 8), min_size=1, max_size=40),
    states=st.sets(st.integers(0, 20), max_size=2),
    offsets=st.sets(st.integers(0, 10), max_size=2),
)
def test_instances_of_different_lengths_are_salvaged(tmp_path_factory, lengths, states, offsets):
    folder = tmp_path_factory.mktemp("salvage")
    edges = np.cumsum([0, *lengths])
    rows = np.random.default_rng(0).integers(0, 16, (edges[-1], 3), dtype=np.uint8)
    run = store_format.create_run(folder / "run")
    layer = store_format.create_layer(run, "lstm", LayerInfo(20, None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_format, "OFFSETS_OF_CHUNK", 4)
        array = store_format.create_part(layer, "0", 3, 10, "lz4", offsets=True)
    writer = PartWriter(array, "here", None)
    writer.append(rows, lengths)
    writer.flush()
    set_attributes(run, instances=len(lengths))
    numbers = np.arange(len(lengths))
    lost = np.zeros(len(lengths), np.bool_)
    broken = set()
    for chunk in sorted(offsets):
        file = folder / f"run/lstm/part-0/offsets/c/{chunk}"
        if file.exists():
            file.unlink()
            broken.add(chunk)
            lost[4 * chunk : 4 * chunk + 5] = True
    for chunk in sorted(states):
        if 10 * chunk < len(rows):
            chunk_file(folder / "run", "lstm", chunk).unlink()
            # Without all offsets, it may be more than those that have rows in the chunk.
            lost |= (
                (edges[1:] > 10 * chunk) & (edges[:-1] < 10 * chunk + 10) & (np.array(lengths) > 0)
            )
    damage = open_run(folder / "run").verify()
    told = np.zeros(len(lengths), np.bool_)
    for first, last in zip(damage["first_instance"], damage["last_instance"], strict=True):
        told[first : last + 1] = True
    assert (told | ~lost).all(), "damage is not told"
    if not broken:
        for first, last, chunk in damage[["first_instance", "last_instance", "chunk"]].to_numpy():
            has_rows = numbers[(edges[1:] > 10 * chunk) & (edges[:-1] < 10 * chunk + 10)]
            has_rows = has_rows[np.array(lengths)[has_rows] > 0]
            assert (first, last) == (has_rows[0], has_rows[-1])
    if not told.all():
        new = open_run(folder / "run").salvage(folder / "new")
        assert len(new.verify()) == 0
        assert new.instances == (~told).sum()
        whole = [rows[edges[i] : edges[i + 1]] for i in numbers[~told]]
        np.testing.assert_array_equal(new["lstm"].raw_states[:], np.concatenate(whole))
        for number, own in zip(numbers[~told], whole, strict=True):
            if new["lstm"].state_count:
                assert new["lstm"].histogram([number]).total == len(own)
    shutil.rmtree(folder)


def test_a_flipped_bit_and_bits_behind_the_last_neuron(tmp_path):
    write(tmp_path / "run", 50)
    as_before_checksums(tmp_path / "run")  # without digests, which would tell of the bits
    file = chunk_file(tmp_path / "run", "a", 2)
    content = bytearray(file.read_bytes())
    content[20] ^= 4
    file.write_bytes(content)
    array = zarr.open_array(tmp_path / "run", path="b/part-0/states")
    array[9, 2] = 0b10000
    damage = open_run(tmp_path / "run").verify()
    assert damage["layer"].tolist() == ["a", "b"]
    assert damage["chunk"].tolist() == [2, 1]
    assert damage["first_instance"].tolist() == [6, 7]
    assert damage["last_instance"].tolist() == [9, 13]
    assert "layer a, part 0, chunk 2 (rows 20 to 29) is damaged" in damage["problem"][0]
    assert damage["problem"][1] == "row 9 has bits set behind the last of 20 neurons"


def test_a_layer_that_lacks_instances_of_the_run(tmp_path):
    write(tmp_path / "run", 50)
    as_before_checksums(tmp_path / "run")
    array = zarr.open_array(tmp_path / "run", path="b/part-0/states")
    array.update_attributes({"rows": 45})
    run = open_run(tmp_path / "run")
    (damage,) = run.verify().itertuples(index=False)
    assert damage[:2] == ("b", "0")
    assert damage[3:] == (45, 49, "it has 45 instances, but 50 were committed")
    assert run.salvage(tmp_path / "new").instances == 45


def test_parts_of_several_writers_and_labels(tmp_path):
    written = write(tmp_path / "run", 20, parts=(("x", 0), ("y", 100)))
    run = open_run(tmp_path / "run")
    run.set_labels(np.arange(120) % 3)
    chunk_file(tmp_path / "run", "b", 1, part="y").unlink()
    new = run.salvage(tmp_path / "new")
    assert new.parts == {
        "from-0": range(20),
        "from-100": range(100, 107),
        "from-114": range(114, 120),
    }
    assert new.labels.tolist() == (np.arange(120) % 3).tolist()
    np.testing.assert_array_equal(new["b"].raw_states[27:], written["b", 100][-6:])


def test_runs_in_memory_are_verified_here():
    store = MemoryStore()
    write(store, 30)
    with dask.config.set(scheduler="processes"):
        assert len(open_run(store).verify()) == 0


def test_layers_that_were_counted_while_they_were_captured(tmp_path):
    with ts.StateRecorder("live", tmp_path / "run", histogram="live") as recorder:
        recorder.record(np.random.default_rng(0).normal(size=(500, 3, 20)))
    run = open_run(tmp_path / "run")
    assert len(run.verify()) == 0
    with pytest.raises(ValueError, match="histogram='live', which keeps no raw states"):
        run.salvage(tmp_path / "new")
    chunk = next(p for p in (tmp_path / "run/live/part-0/counted").rglob("c/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    (damage,) = open_run(tmp_path / "run").verify().itertuples(index=False)
    assert damage[:2] == ("live", "0")
    assert damage[3:5] == (0, 499)
    assert "counts of its first 1500 rows, which took their place, are missing" in damage[5]


def test_nothing_is_overwritten(tmp_path):
    write(tmp_path / "run", 5)
    with pytest.raises(FileExistsError, match="holds something already: salvage to a new store"):
        open_run(tmp_path / "run").salvage(tmp_path / "run")


def test_an_empty_run():
    store = MemoryStore()
    store_format.create_run(store)
    assert len(open_run(store).verify()) == 0


def test_the_command(tmp_path):
    def command(*arguments):
        program = [sys.executable, "-m", "tensorstate", "verify", *map(str, arguments)]
        return subprocess.run(program, capture_output=True, text=True, timeout=300)

    write(tmp_path / "run", 50)
    whole = command(tmp_path / "run")
    assert (whole.returncode, whole.stdout) == (0, "whole: 2 layers, 50 instances\n")
    as_before_checksums(tmp_path / "run")
    chunk_file(tmp_path / "run", "b", 1).unlink()
    found = command(tmp_path / "run")
    assert "tensorstate: run" in found.stderr
    assert "has no digests of the chunks of a/part-0, b/part-0, which an earl" in found.stderr
    assert found.returncode == 3
    assert "7 to 13" in found.stdout
    for_machines = command(tmp_path / "run", "--json", "--salvage", tmp_path / "new")
    assert for_machines.returncode == 3
    told = json.loads(for_machines.stdout)
    assert told["salvaged"] == 43
    assert told["damage"][0]["chunk"] == 1
    assert open_run(tmp_path / "new").instances == 43
    again = command(tmp_path / "run", "--salvage", tmp_path / "new")
    assert again.returncode == 1
    assert "holds something already" in again.stderr
