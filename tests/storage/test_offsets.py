"""Layers whose instances differ in length, against lists of the rows of each instance."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from tensorstate.storage import DamagedChunkError, LayerInfo, RunWriter, open_run
from tensorstate.storage import format as store_format
from tensorstate.storage.offsets import EqualLengths, divide
from tensorstate.storage.part import PartReader
from tensorstate.storage.part_writer import PartWriter
from tests.storage.metadata import edit
from tests.storage.stores import ReadingStore, RecordingStore
from tests.strategies import as_dict, count_by_hand, reproducible, seeds

WIDTH = 2
INFO = LayerInfo(8 * WIDTH, None)


def instances_of(lengths, seed=0):
    """The rows of each instance, from few states."""
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 256, (5, WIDTH), dtype=np.uint8)
    return [pool[rng.integers(0, 5, length)] for length in lengths]


def joined(instances):
    return np.concatenate([np.empty((0, WIDTH), np.uint8), *instances])


def part_of(store, chunk_rows=7, offsets_of_chunk=4):
    """An empty part with small chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_format, "OFFSETS_OF_CHUNK", offsets_of_chunk)
        layer = store_format.create_layer(store_format.create_run(store), "layer", INFO)
        return store_format.create_part(layer, "0", WIDTH, chunk_rows, "lz4", offsets=True)


def append(writer, instances):
    writer.append(joined(instances), [len(rows) for rows in instances])


def check(reader, instances):
    """Compare a reader with the first instances, as many as it has."""
    extents = reader.extents(None)
    known = instances[: len(extents)]
    np.testing.assert_array_equal(reader[:], joined(known))
    numbers = np.arange(len(known))
    starts, stops = extents.bounds(numbers)
    for rows, start, stop in zip(known, starts, stops, strict=True):
        np.testing.assert_array_equal(reader[int(start) : int(stop)], rows)
    for n in (0, len(known) // 2, len(known)):
        assert extents.rows_of_first(n) == len(joined(known[:n]))


lengths_of_pieces = st.lists(
    st.tuples(st.lists(st.integers(0, 9), max_size=8), st.booleans()), max_size=8
)


@settings(reproducible, max_examples=15)
@given(lengths_of_pieces, st.integers(1, 9), st.integers(1, 5), st.data())
def test_pieces_in_instances_out(pieces, chunk_rows, offsets_of_chunk, data):
    array = part_of(MemoryStore(), chunk_rows, offsets_of_chunk)
    writer = PartWriter(array, "here", None)
    everything = instances_of([length for lengths, _ in pieces for length in lengths])
    taken = 0
    for lengths, flush in pieces:
        append(writer, everything[taken : taken + len(lengths)])
        taken += len(lengths)
        if flush:
            writer.flush()
            assert (writer.instances, writer.committed) == (taken, len(joined(everything[:taken])))
        reader = PartReader(writer.array, "here")
        assert len(reader.extents(None)) == writer.instances
        check(reader, everything)
    writer.flush()
    # Gone on after any of the instances, the part ends as if it had never been left.
    kept = data.draw(st.integers(0, taken))
    again = PartWriter(zarr.open_array(array.store_path, mode="r+"), "here", None, kept)
    assert again.instances == kept
    check(PartReader(again.array, "here"), everything)
    assert len(PartReader(again.array, "here").extents(None)) == kept
    append(again, everything[kept:])
    again.flush()
    reader = PartReader(again.array, "here")
    assert len(reader.extents(None)) == taken
    check(reader, everything)
    some = data.draw(st.integers(0, taken + 1))
    check(reader.first(some, None), everything)
    assert len(reader.first(some, None).extents(None)) == min(some, taken)


@settings(reproducible, max_examples=30)
@given(st.lists(st.integers(0, 60)), st.integers(1, 40), seeds)
def test_bounds_of_some_instances(lengths, offsets_of_chunk, seed):
    writer = PartWriter(part_of(MemoryStore(), 50, offsets_of_chunk), "here", None)
    append(writer, instances_of(lengths))
    writer.flush()
    rng = np.random.default_rng(seed)
    some = np.sort(rng.integers(0, max(len(lengths), 1), 20 if lengths else 0))
    starts, stops = PartReader(writer.array, "here").extents(None).bounds(some)
    edges = np.cumsum([0, *lengths])
    np.testing.assert_array_equal(starts, edges[some])
    np.testing.assert_array_equal(stops, edges[some + 1])


def test_equal_lengths_need_no_offsets():
    extents = EqualLengths(3, 12)
    assert (len(extents), extents.rows_of_first(2)) == (4, 6)
    assert [a.tolist() for a in extents.bounds(np.array([0, 2, 2]))] == [[0, 6, 6], [3, 9, 9]]


@reproducible
@given(st.lists(st.integers(0, 9)), st.integers(1, 12))
def test_groups_are_as_large_as_they_may_be(lengths, most):
    groups = [[*range(len(lengths))[some]] for some in divide(np.array(lengths, int), most)]
    assert [number for group in groups for number in group] == [*range(len(lengths))]
    sizes = [sum(lengths[number] for number in group) for group in groups]
    assert all(size <= most or len(group) == 1 for size, group in zip(sizes, groups, strict=True))
    for size, following in zip(sizes, groups[1:], strict=False):
        assert size + lengths[following[0]] > most


def test_states_and_offsets_are_stored_before_they_are_committed():
    store = RecordingStore()
    writer = PartWriter(part_of(store), "here", None)
    store.keys.clear()
    append(writer, instances_of([3, 4, 0, 2]))
    part = "layer/part-0"
    commit = [f"{part}/offsets/c/0", f"{part}/offsets/zarr.json", f"{part}/states/zarr.json"]
    assert store.keys == [f"{part}/states/c/0/0", *commit]
    assert (writer.committed, writer.instances) == (7, 3)
    store.keys.clear()
    writer.flush()
    assert store.keys == [f"{part}/states/c/1/0", *commit]
    store.keys.clear()
    writer.flush()
    assert store.keys == []
    append(writer, instances_of([0]))  # which has no row that would have to be written
    writer.flush()
    assert store.keys == [f"{part}/offsets/c/1", *commit[1:]]


def test_instances_without_rows_do_not_pile_up():
    writer = PartWriter(part_of(MemoryStore(), 7, 100), "here", None)
    append(writer, instances_of([1]))
    for _ in range(50):
        append(writer, instances_of([0] * 30))
    assert writer.instances > 1300
    writer.flush()
    assert (writer.instances, writer.committed) == (1501, 1)


def test_only_the_offsets_of_the_instances_are_read():
    store = ReadingStore(MemoryStore())
    writer = PartWriter(part_of(store, 1000, 10), "here", None)
    append(writer, instances_of([1] * 100))
    writer.flush()
    extents = PartReader(writer.array, "here").extents(None)
    for instances, chunks in [([34], [3]), ([3, 7], [0]), ([19, 20], [1, 2]), ([30], [2, 3])]:
        store.keys.clear()
        extents.bounds(np.array(instances))
        read = {int(key.rsplit("/", 1)[1]) for key in store.keys if "/offsets/c/" in key}
        assert sorted(read) == chunks


def damaged(path, chunk, how):
    file = path / f"layer/part-0/offsets/c/{chunk}"
    if how == "missing":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[-6] ^= 1
        file.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "damaged"])
@pytest.mark.parametrize("chunk", [0, 1])
def test_damaged_offsets_are_named(tmp_path, how, chunk):
    writer = PartWriter(part_of(tmp_path / "run"), "run R, layer L, part 0", None)
    append(writer, instances_of([1] * 8))
    writer.flush()
    damaged(tmp_path / "run", chunk, how)
    extents = PartReader(writer.array, "run R, layer L, part 0").extents(None)
    says = f"run R, layer L, part 0, chunk {chunk} of the offsets .*{how}.* lost"
    with pytest.raises(DamagedChunkError, match=says):
        extents.bounds(np.arange(8))
    whole = 5 - 4 * chunk  # an instance of the other chunk, and not its first
    assert extents.bounds(np.array([whole]))[1].tolist() == [whole + 1]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda facts: facts.update(offsets="3"), "'3' for offsets, which is no"),
        (lambda facts: facts.pop("offsets"), "not say how many instances its rows"),
    ],
)
def test_a_part_that_does_not_tell_its_instances(tmp_path, spoil, says):
    part_of(tmp_path / "run")
    edit(tmp_path / "run/layer/part-0/states/zarr.json", spoil)
    with pytest.raises(ValueError, match=f"layer layer, part 0 .*{says}"):
        open_run(tmp_path / "run")


def test_offsets_that_are_gone_or_too_few(tmp_path):
    array = part_of(tmp_path / "run")
    writer = PartWriter(array, "here", None)
    append(writer, instances_of([1, 2, 3]))
    writer.flush()
    offsets = zarr.open_array(tmp_path / "run/layer/part-0/offsets", mode="r+")
    offsets.resize((2,))
    with pytest.raises(ValueError, match=r"shape \(2,\), not int64 of 3 instances"):
        PartReader(writer.array, "here").extents(None).rows_of_first(1)
    (tmp_path / "run/layer/part-0/offsets/zarr.json").unlink()
    with pytest.raises(ValueError, match="here has no array 'offsets'"):
        PartReader(writer.array, "here").extents(None).rows_of_first(1)


def write(store, part, first, instances, chunk_rows, batch):
    """Write a part of a run in batches, in small chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tensorstate.storage.writer._chunk_bytes", lambda share: WIDTH * chunk_rows)
        patch.setattr(store_format, "OFFSETS_OF_CHUNK", 5)
        writer = RunWriter(store, part=part, first_instance=first)
        writer.add_layer("layer", INFO)
        for start in range(0, len(instances), batch):
            some = instances[start : start + batch]
            lengths = np.array([len(rows) for rows in some])
            writer.put("layer", joined(some), lengths)
        writer.close()


@st.composite
def runs(draw):
    """A layer of one to three parts with gaps between them; numbers and rows of its instances."""
    store = MemoryStore()
    numbers, rows = [], []
    first = 0
    for part in range(draw(st.integers(1, 3))):
        lengths = draw(st.lists(st.integers(0, 12), min_size=part == 0, max_size=20))
        instances = instances_of(lengths, draw(seeds))
        if part == 0 and not any(lengths):
            instances[0] = instances_of([1])[0]
        write(store, part, first, instances, draw(st.integers(1, 20)), draw(st.integers(1, 6)))
        numbers += range(first, first + len(instances))
        rows += instances
        first += len(instances) + draw(st.integers(0, 2))
    return open_run(store), numbers, rows


def by_hand(instances, places):
    """Count the rows of instances: state to times and smallest row number in the layer."""
    starts = np.cumsum([0, *map(len, instances)])
    row_numbers = np.concatenate(
        [np.empty(0, int), *(starts[p] + np.arange(len(instances[p])) for p in sorted(places))]
    )
    found = count_by_hand(joined(instances)[row_numbers])
    return {state: (times, int(row_numbers[first])) for state, (times, first) in found.items()}


@settings(reproducible, max_examples=15)
@given(st.data())
def test_any_instances_and_labels(data):
    run, numbers, instances = data.draw(runs())
    layer, rows = run["layer"], joined(instances)
    assert (run.instances, layer.instance_count) == (len(numbers), len(numbers))
    assert (layer.positions, layer.state_count) == (None, len(rows))
    np.testing.assert_array_equal(layer.raw_states[:], rows)
    assert as_dict(layer.histogram(), rows) == count_by_hand(rows)
    chosen = data.draw(st.lists(st.integers(0, len(numbers) - 1), max_size=30))
    index = [numbers[place] for place in chosen]
    assert as_dict(layer.histogram(index), rows) == by_hand(instances, chosen)
    assert layer.counts(index).sum() == sum(len(instances[place]) for place in chosen)
    each = {"min_size": len(numbers), "max_size": len(numbers)}
    labels = np.array(data.draw(st.lists(st.integers(0, 3), **each)))
    by = np.zeros(numbers[-1] + 1, int)
    by[numbers] = labels
    one_by_one = data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch:
        if one_by_one:
            patch.setattr("tensorstate.storage.labels._most_rows", lambda *what: -1)
        found = layer.histogram(index, by=by)
    assert list(found) == sorted({int(labels[place]) for place in chosen})
    for label, histogram in found.items():
        own = [place for place in chosen if labels[place] == label]
        assert as_dict(histogram, rows) == by_hand(instances, own)
