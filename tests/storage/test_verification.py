"""Damage is found where it was done, and what is whole comes through."""

import json
import shutil
import subprocess
import sys

import dask
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

import tensorstate as ts
from tensorstate.storage import LayerInfo, open_run
from tensorstate.storage import format as store_format
from tensorstate.storage.part import PartWriter
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
            writer.commit_instances(instances)
            written[name, first or 0] = rows
    if parts == ((0, None),):
        run.attrs["instances"] = instances
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


def test_a_flipped_bit_and_bits_behind_the_last_neuron(tmp_path):
    write(tmp_path / "run", 50)
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
    chunk_file(tmp_path / "run", "b", 1).unlink()
    found = command(tmp_path / "run")
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
