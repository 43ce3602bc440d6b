"""Several writers of one run, each with its part: a reader sees what one would have written."""

import shutil
import warnings

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import LocalStore, MemoryStore

from tensorstate.capture import StateRecorder
from tensorstate.storage import LayerInfo, RunWriter, open_run
from tests.storage.metadata import as_before_checksums, edit
from tests.storage.stores import FailingStore
from tests.strategies import as_dict, count_by_hand, reproducible, seeds

INFO = LayerInfo(neurons=20, positions=4)
LAYERS = {"a": INFO, "b": LayerInfo(neurons=9, positions=1, index=1)}


def rows_of(info, start, stop):
    """The rows of instances start to stop, the same for every writer."""
    rng = np.random.default_rng(info.neurons)
    pool = rng.integers(0, 2, (7, info.neurons), dtype=np.uint8)
    rows = pool[rng.integers(0, 7, (2000, info.positions))]
    packed = np.packbits(rows[start:stop], axis=-1, bitorder="little")
    return packed.reshape(-1, info.width)


def open_part(store, part, first, mode="x", layers=LAYERS, **options):
    writer = RunWriter(
        store, mode=mode, part=part, first_instance=first, layers=len(layers), **options
    )
    for name, info in layers.items():
        writer.add_layer(name, info)
    return writer


def put(writer, start, stop, layers=LAYERS):
    for name, info in layers.items():
        writer.put(name, rows_of(info, start, stop))


def write(store, part, start, stop, mode="x", **options):
    writer = open_part(store, part, start, mode, **options)
    put(writer, start, stop)
    writer.close()


def check(store, *instances):
    """Compare all that a reader sees with the rows of these instances."""
    run = open_run(store)
    numbers = [i for some in instances for i in some]
    assert run.instances == len(numbers)
    for name, info in LAYERS.items():
        rows = rows_of(info, 0, 2000).reshape(2000, -1)[numbers].reshape(-1, info.width)
        np.testing.assert_array_equal(np.asarray(run[name].raw_states), rows)
        assert as_dict(run[name].histogram(), rows) == count_by_hand(rows)
    return run


def test_parts_in_any_order_are_one_layer(tmp_path):
    path = tmp_path / "run"
    write(path, "late", 25, 40)
    write(path, 0, 0, 10)
    write(path, "mid-1", 10, 25)
    run = check(path, range(40))
    assert run.parts == {"0": range(10), "late": range(25, 40), "mid-1": range(10, 25)}
    assert [name for name in path.iterdir() if name.name.startswith(".")] == []
    attributes = zarr.open_array(path / "a/part-late/states", mode="r").attrs.asdict()
    assert len(attributes.pop("digests")["last"]) == 16
    assert {**attributes, "uuid": "", "checksum": ""} == {
        "checksum": "",
        "rows": 60,
        "uuid": "",
        "first_instance": 25,
        "instances": 15,
        "layers": ["a", "b"],
    }


@st.composite
def plans(draw):
    """Parts of one run: where each ends, and in which pieces and order they write."""
    lengths = draw(st.lists(st.integers(0, 60), min_size=1, max_size=4))
    edges = np.cumsum([0, *lengths]).tolist()
    parts = [(str(i), edges[i], edges[i + 1]) for i in range(len(lengths))]
    return draw(st.permutations(parts)), edges[-1]


@reproducible
@given(plans(), st.integers(1, 40), st.integers(1, 9), seeds)
def test_any_split_reads_as_one_writer(plan, chunk_rows, batch, seed):
    parts, total = plan
    store, alone = MemoryStore(), MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tensorstate.storage.writer._chunk_bytes", lambda share: 3 * chunk_rows)
        writers = [(open_part(store, name, start), start, stop) for name, start, stop in parts]
        moments = [
            (number, begin, min(begin + batch, stop))
            for number, (_, start, stop) in enumerate(writers)
            for begin in range(start, stop, batch)
        ]
        # All write at the same time: each its own pieces in order, whose turn it is is drawn.
        rng = np.random.default_rng(seed)
        pieces = {n: iter([m[1:] for m in moments if m[0] == n]) for n in range(len(writers))}
        for number in rng.permutation([n for n, _, _ in moments]).astype(int).tolist():
            put(writers[number][0], *next(pieces[number]))
            if rng.random() < 0.3:
                writers[number][0].flush()
                run = open_run(store)
                assert run.instances == sum(map(len, run.parts.values()))
                run["b"].histogram() if run["b"].state_count else None  # caches what is there
        for writer, _, _ in writers:
            writer.close()
        one = RunWriter(alone, layers=2)
        for name, info in LAYERS.items():
            one.add_layer(name, info)
        put(one, 0, total)
        one.close()
    if total == 0:
        assert open_run(store).instances == 0
        return
    check(store, range(total))
    index = rng.integers(-total, total, 5)
    labels = rng.integers(0, 3, total)
    for name in LAYERS:
        mine, other = open_run(store)[name], open_run(alone)[name]
        assert mine.histogram() == other.histogram()
        np.testing.assert_array_equal(mine.histogram().first_rows, other.histogram().first_rows)
        assert mine.histogram(index) == other.histogram(index)
        assert mine.histogram(by=labels) == other.histogram(by=labels)


def test_gaps_keep_the_numbers_of_the_instances():
    store = MemoryStore()
    write(store, 1, 10, 15)
    write(store, 3, 30, 33)
    run = check(store, range(10, 15), range(30, 33))
    layer = run["a"]
    by_number = rows_of(INFO, 0, 40).reshape(40, 4, 3)
    for index in ([10], [32, 14, 30, 30], [-1, -3], np.isin(np.arange(33), [11, 31])):
        numbers = np.arange(33)[index]
        expected = count_by_hand(by_number[numbers].reshape(-1, 3))
        found = layer.histogram(index)
        states = [s.tobytes() for s in found.packed_states()]
        assert dict(zip(states, found.counts.tolist(), strict=True)) == {
            state: times for state, (times, _) in expected.items()
        }
    by = layer.histogram(by=np.arange(33) % 2)
    assert {label: h.total // 4 for label, h in by.items()} == {0: 5, 1: 3}
    assert layer.histogram([11], by=["x"] * 33)["x"].total == 4
    for number in (0, 9, 15, 29, 33):
        says = rf"instance {number} is not among the 8 captured ones, 10 to 14, 30 to 32"
        with pytest.raises(IndexError, match=says):
            layer.counts([number])
    with pytest.raises(IndexError, match="instance 0 is not among"):
        layer.counts(np.ones(33, bool))
    with pytest.raises(IndexError, match="a mask of 8 instances does not fit 33"):
        layer.counts(np.ones(8, bool))
    with pytest.raises(ValueError, match="8 labels do not fit 33 instances"):
        layer.histogram(by=np.ones(8, int))
    assert layer.counts([]).tolist() == []


def test_a_part_in_the_middle_that_grows_moves_what_was_counted():
    store = MemoryStore()
    for part, start, stop in ((0, 0, 10), (1, 20, 25), (2, 40, 50)):
        write(store, part, start, stop)
    check(store, range(10), range(20, 25), range(40, 50))
    writer = open_part(store, 1, 20, mode="resume")
    put(writer, 25, 40)
    writer.close()
    check(store, range(10), range(20, 50))
    writer = open_part(store, 0, 0, mode="resume")
    put(writer, 10, 20)
    writer.close()
    check(store, range(50))


def test_only_instances_that_all_layers_of_a_part_have_are_seen():
    store = MemoryStore()
    first, second = open_part(store, 0, 0), open_part(store, 1, 10)
    put(first, 0, 6)
    put(second, 10, 12)
    first.put("a", rows_of(INFO, 6, 9))
    second.put("b", rows_of(LAYERS["b"], 12, 17))
    first.flush()
    second.flush()
    run = check(store, range(6), range(10, 12))
    assert run["a"].instance_count == run["b"].instance_count == 8
    # Another writer may take over where the part ends for all of them.
    first.close()
    second.close()
    write(store, 2, 6, 10)
    check(store, range(12))


def test_instances_wait_until_all_expected_layers_are_there():
    store = MemoryStore()
    writer = RunWriter(store, part=0, first_instance=0, layers=2, queue_bytes=1 << 17)
    writer.add_layer("a", INFO)
    for _ in range(30):
        writer.put("a", rows_of(INFO, 0, 2000))
    writer._queue.call(lambda: None)
    assert open_run(store).instances == 0
    assert open_run(store)["a"].state_count == 0
    writer.add_layer("b", LAYERS["b"])
    writer.put("b", rows_of(LAYERS["b"], 0, 2000))
    writer.close()
    check(store, range(2000))


@pytest.mark.parametrize("url", ["memory://several/run", "file://{}/run"])
def test_urls(tmp_path, url):
    url = url.format(tmp_path)
    for part, (start, stop) in enumerate(((0, 5), (5, 9))):
        write(url, part, start, stop)
    with pytest.raises(FileExistsError, match="has a part '1' with 4 committed instances"):
        RunWriter(url, part=1, first_instance=5)
    check(url, range(9))
    write(url, 1, 5, 7, mode="w")
    check(url, range(7))
    RunWriter(url, mode="w").close()
    assert open_run(url).parts == {}


@pytest.mark.parametrize("local", [True, False])
def test_x_refuses_a_part_that_is_there_and_joins_others(tmp_path, local):
    store = tmp_path / "run" if local else MemoryStore()
    write(store, 0, 0, 5)
    with pytest.raises(FileExistsError, match=r"has a part '0' with 5 committed instances: name"):
        RunWriter(store, part="0", first_instance=100)
    with pytest.raises(FileExistsError, match=r"already holds a run with 5 committed instances"):
        RunWriter(store)
    write(store, 1, 5, 8)
    check(store, range(8))


def test_w_overwrites_its_own_part_only(tmp_path):
    path = tmp_path / "run"
    write(path, 0, 0, 5)
    write(path, 1, 5, 10)
    RunWriter(path, mode="w", part=1, first_instance=20).close()
    check(path, range(5))
    write(path, 1, 20, 22, mode="w")
    run = check(path, range(5), range(20, 22))
    assert run.parts == {"0": range(5), "1": range(20, 22)}


def test_w_without_a_part_overwrites_all(tmp_path):
    for part in range(2):
        write(tmp_path / "run", part, 5 * part, 5 * part + 5)
    RunWriter(tmp_path / "run", mode="w").close()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["zarr.json"]
    assert open_run(tmp_path / "run").parts == {}


def test_resume_goes_on_after_the_prefix_of_the_part():
    store = MemoryStore()
    write(store, 0, 0, 5)
    writer = open_part(store, 1, 5)
    put(writer, 5, 8)
    writer.put("a", rows_of(INFO, 8, 10))  # the other layer never got these
    writer.close()
    again = RunWriter(store, mode="resume", part=1, first_instance=5, layers=2)
    assert again.committed_before == 3
    assert [again.add_layer(name, info) for name, info in LAYERS.items()] == [3, 3]
    put(again, 8, 12)
    again.close()
    assert check(store, range(12)).parts["1"] == range(5, 12)


def test_resuming_a_part_that_was_never_begun(tmp_path):
    write(tmp_path / "run", 4, 40, 45, mode="resume")
    write(tmp_path / "run", 5, 45, 47, mode="resume")
    check(tmp_path / "run", range(40, 47))


def test_resuming_with_another_first_instance_is_refused():
    store = MemoryStore()
    write(store, 1, 5, 8)
    with pytest.raises(ValueError, match=r"part '1' begins with instance 5, .* began with 0"):
        RunWriter(store, mode="resume", part=1, first_instance=0)
    check(store, range(5, 8))


def test_layers_that_a_resumed_part_had_before_do_not_hold_it_up():
    store = MemoryStore()
    other = {"c": INFO, "a": INFO}
    writer = open_part(store, 0, 0, layers=other)
    writer.put("c", rows_of(INFO, 0, 3))  # ended before any instance was complete
    writer.close()
    write(store, 0, 0, 5, mode="resume")
    assert open_run(store).instances == 5
    with pytest.raises(ValueError, match=r"part 0 has 5 committed instances without a layer 'c'"):
        open_part(store, 0, 0, "resume", layers=other)


def test_a_run_without_a_part_does_not_go_on_among_several():
    store = MemoryStore()
    write(store, 0, 0, 5)
    with pytest.raises(ValueError, match=r"has the parts '0' of several writers: say which part"):
        RunWriter(store, mode="resume")
    check(store, range(5))


def write_alone(store, stop):
    writer = RunWriter(store, layers=2)
    for name, info in LAYERS.items():
        writer.add_layer(name, info)
    put(writer, 0, stop)
    writer.put("a", rows_of(INFO, stop, stop + 2))
    writer.close()


def test_what_one_writer_wrote_is_read_as_ever_and_others_may_join(tmp_path):
    path = tmp_path / "run"
    write_alone(path, 5)
    attributes = zarr.open_array(path / "a/part-0/states", mode="r").attrs
    assert set(attributes) == {"rows", "uuid", "first_instance", "digests", "checksum"}
    run = open_run(path)
    assert (run.instances, run.parts) == (5, {"0": range(5)})
    assert [layer.instance_count for layer in run.values()] == [7, 5]
    assert run["a"].counts([6]).sum() == 4
    write(path, 1, 5, 9)
    check(path, range(9))
    # and its part goes on as one of several, also in a part of the layers only
    writer = RunWriter(path, mode="resume", part=0, first_instance=0)
    writer.add_layer("a", INFO)
    writer.close()
    check(path, range(9))


def test_the_part_of_a_single_writer_goes_on_as_one_of_several():
    store = MemoryStore()
    write_alone(store, 5)
    writer = open_part(store, 0, 0, "resume")
    put(writer, 5, 8)
    writer.close()
    write(store, "x", 8, 9)
    check(store, range(9))


def test_a_run_of_the_first_days_is_read(tmp_path):
    """Parts had no number of their first instance then."""
    write_alone(tmp_path / "run", 5)
    for name in LAYERS:
        path = tmp_path / "run" / name / "part-0/states/zarr.json"
        edit(path, lambda attributes: attributes.pop("first_instance"))
    run = open_run(tmp_path / "run")
    assert run.instances == 5
    assert run["b"].counts([0, 4]).sum() == 2


@pytest.mark.parametrize(
    "info",
    [LayerInfo(21, 4), LayerInfo(20, 5), LayerInfo(20, 4, threshold=0.5), LayerInfo(20, 4, 0.0, 1)],
)
@pytest.mark.parametrize("mode", ["x", "w", "resume"])
def test_writers_that_capture_other_states_are_refused(mode, info):
    store = MemoryStore()
    write(store, 0, 0, 5)
    writer = RunWriter(store, mode=mode, part=1, first_instance=5)
    with pytest.raises(
        ValueError, match=r"layer a, part 1 was recorded as LayerInfo.* as Layer"
    ) as e:
        writer.add_layer("a", info)
    assert str(info) in str(e.value)
    assert str(INFO) in str(e.value)
    writer.close()
    check(store, range(5))


def test_another_order_of_the_captures_is_none_of_states():
    store = MemoryStore()
    write(store, 0, 0, 5)
    swapped = {"a": LayerInfo(20, 4, index=1), "b": LayerInfo(9, 1, index=0)}
    writer = open_part(store, 1, 5, layers=swapped)
    put(writer, 5, 7)
    writer.close()
    assert list(check(store, range(7))) == ["a", "b"]


@pytest.mark.parametrize(("first", "end"), [(0, 5), (3, 5), (5, 5), (6, 6), (8, 8)])
def test_a_part_that_meets_another_one_stops_there(first, end):
    store = MemoryStore()
    write(store, "there", 5, 9)
    writer = open_part(store, "new", first)
    put(writer, first, first + 4 if first < 5 else first)
    if first == 0:
        writer.flush()
        put(writer, 4, 5)
        writer.flush()
        put(writer, 5, 7)
    elif first == 3:
        pass
    else:
        writer.flush()  # nothing was recorded: a shard may be empty
        put(writer, first, first + 1)
    says = rf"part 'new' was to go on with instance {end}, but part 'there' has the .* 5 to 8"
    with pytest.raises(OSError, match=says):
        writer.close()
    check(store, range(first, end), range(5, 9))


def test_complete_parts_may_be_resumed_beside_each_other():
    store = MemoryStore()
    for mode in ("x", "resume"):
        for part in range(3):
            writer = open_part(store, part, 5 * part, mode)
            if mode == "x":
                put(writer, 5 * part, 5 * part + 5)
            writer.close()
    check(store, range(15))


def test_overlapping_parts_are_refused_by_the_reader():
    store = MemoryStore()
    writers = [open_part(store, part, first) for part, first in ((0, 0), (1, 3), (2, 50))]
    for writer in writers:
        put(writer, 0, 5)
        writer.close()
    says = r"parts '0' with the instances 0 to 4 and '1' with the instances 3 to 7.*count twice"
    with pytest.raises(ValueError, match=says):
        open_run(store)
    # The way out is the one that the message names.
    RunWriter(store, mode="w", part=1, first_instance=5).close()
    assert open_run(store).instances == 10


@pytest.mark.parametrize("local", [True, False])
def test_two_writers_of_one_part_in_a_process_are_refused(tmp_path, local):
    store = tmp_path / "run" if local else MemoryStore()
    first = open_part(store, 1, 0)
    for mode in ("x", "w", "resume"):
        with pytest.raises(FileExistsError, match=r"part '1' of the run .* in this process"):
            RunWriter(store, mode=mode, part=1, first_instance=0)
        with pytest.raises(FileExistsError, match=r"the run .* open for writing in this process"):
            RunWriter(store, mode=mode)
    second = open_part(store, 2, 10)
    for writer, start in ((first, 0), (second, 10)):
        put(writer, start, start + 4)
        writer.close()
    write(store, 1, 0, 2, mode="w")
    check(store, range(2), range(10, 14))


def test_a_run_that_is_written_alone_is_joined_by_nobody(tmp_path):
    writer = RunWriter(tmp_path / "run")
    with pytest.raises(FileExistsError, match=r"the run .* open for writing in this process"):
        RunWriter(tmp_path / "run", part=1, first_instance=0)
    writer.close()
    RunWriter(tmp_path / "run", part=1, first_instance=0).close()


@pytest.mark.parametrize(
    ("part", "first", "error", "says"),
    [
        (1, None, ValueError, "part '1' lacks first_instance"),
        (None, 5, ValueError, "first_instance=5 is that of one part of several"),
        (1, -1, ValueError, "first_instance is 0 or more, not -1"),
        (1, 0.5, TypeError, "first_instance is a whole number, not 0.5"),
        (1, True, TypeError, "first_instance is a whole number, not True"),
        (1.5, 0, TypeError, "named by text or a whole number, not by 1.5"),
        (True, 0, TypeError, "named by text or a whole number, not by True"),
        (-1, 0, ValueError, "'-1' cannot name a part"),
        ("", 0, ValueError, "'' cannot name a part"),
        ("a/b", 0, ValueError, "'a/b' cannot name a part"),
        ("..", 0, ValueError, "cannot name a part"),
        ("x\n", 0, ValueError, "cannot name a part"),
    ],
)
def test_parts_that_make_no_sense(tmp_path, part, first, error, says):
    for make in (RunWriter, lambda *a, **o: StateRecorder("a", *a, **o)):
        with pytest.raises(error, match=says):
            make(tmp_path / "run", part=part, first_instance=first)
    assert not (tmp_path / "run").exists()


def test_the_rank_is_taken_from_the_environment_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    write(tmp_path / "run", "rank", 0, 5)
    assert open_run(tmp_path / "run").parts == {"3": range(5)}
    for rank in ("", "3a", "-1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(ValueError, match="environment variable RANK"):
            RunWriter(tmp_path / "run", part="rank", first_instance=5)
    monkeypatch.delenv("RANK")
    with pytest.raises(ValueError, match="start the program with torchrun, or name the part"):
        RunWriter(tmp_path / "run", part="rank", first_instance=5)


def test_numpy_numbers_are_numbers():
    store = MemoryStore()
    write(store, np.int64(2), np.int64(3), 5)
    assert open_run(store).parts == {"2": range(3, 5)}


def test_recorders_of_a_part_share_it(tmp_path):
    path = tmp_path / "run"
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(10, 3, 20)), "b": rng.normal(size=(10, 9))}
    for part, (start, stop) in enumerate(((0, 4), (4, 10))):
        recorders = [StateRecorder(n, path, part=part, first_instance=start) for n in x]
        for recorder in recorders:
            recorder.record(x[recorder.name][start:stop])
        own = np.packbits(x["a"][start:stop] > 0, axis=-1, bitorder="little")
        np.testing.assert_array_equal(np.asarray(recorders[0].raw_states), own.reshape(-1, 3))
        assert recorders[0].counts([start, stop - 1]).sum() == 6
        if start:
            with pytest.raises(IndexError, match="instance 0 is not among"):
                recorders[0].counts([0])
        recorders[0].close()
    run = open_run(path)
    assert run.instances == 10
    for name, values in x.items():
        packed = np.packbits(values > 0, axis=-1, bitorder="little")
        np.testing.assert_array_equal(
            np.asarray(run[name].raw_states), packed.reshape(-1, packed.shape[-1])
        )


def test_parts_agree_on_a_threshold_that_is_found_in_the_first_batch(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 9))
    recorders = [
        StateRecorder("a", tmp_path / "run", np.median, part=part, first_instance=20 * part)
        for part in range(2)
    ]
    recorders[1].record(x[20:30])
    limit = np.median(x[20:30])
    recorders[0].record(x[:20])
    recorders[1].record(x[30:])
    for recorder in recorders:
        assert recorder.threshold == limit
        recorder.close()
    packed = np.packbits(x > limit, axis=-1, bitorder="little")
    np.testing.assert_array_equal(np.asarray(open_run(tmp_path / "run")["a"].raw_states), packed)


def test_of_two_parts_that_find_a_threshold_at_once_the_first_decides(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(40, 9))
    monkeypatch.setattr(RunWriter, "stored_info", lambda writer, name: None)  # both look first
    for part in range(2):
        recorder = StateRecorder(
            "a", tmp_path / "run", np.median, part=part, first_instance=20 * part
        )
        recorder.record(x[20 * part : 20 * part + 20])
        assert recorder.threshold == np.median(x[:20])
        recorder.close()


def test_a_capture_of_a_part_leaves_the_cache_of_the_layer_alone(tmp_path):
    path = tmp_path / "run"
    write(path, 0, 0, 50)
    whole = open_run(path)["a"].histogram()
    cached = sorted(p.name for p in (path / "a/histogram").iterdir())
    recorder = StateRecorder("a", path, part=1, first_instance=50)
    with pytest.raises(ValueError, match="cannot be mixed"):
        recorder.record(np.ones((2, 4, 21)))
    recorder.record(np.ones((2, 4, 20)))
    assert recorder.counts().tolist() == [8]
    recorder.close()
    assert sorted(p.name for p in (path / "a/histogram").iterdir()) == cached
    assert open_run(path)["a"].histogram().total == whole.total + 8


def test_a_failed_writer_leaves_the_parts_of_others(tmp_path):
    write(tmp_path / "run", 0, 0, 5)
    store = FailingStore(LocalStore(tmp_path / "run"), chunks=0)
    writer = open_part(store, 1, 5)
    put(writer, 5, 9)
    says = r"capturing into .*run, part 1 stopped, 0 instances are committed.*No space left"
    with pytest.raises(OSError, match=says):
        writer.close()
    check(tmp_path / "run", range(5))
    write(tmp_path / "run", 1, 5, 9, mode="resume")
    check(tmp_path / "run", range(9))


def test_a_reset_layer_takes_back_the_instances_of_its_part_only():
    store = MemoryStore()
    write(store, 0, 0, 5)
    writer = open_part(store, 1, 5)
    put(writer, 5, 9)
    writer.flush()
    check(store, range(9))
    writer.reset("a")
    check(store, range(5))
    writer.put("a", rows_of(INFO, 5, 7))
    writer.close()
    check(store, range(7))


def damage(path, **changes):
    edit(path, lambda attributes: attributes.update(changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"instances": "2"}, "layer a, part 1 has '2' for instances"),
        ({"instances": -2}, "layer a, part 1 has -2 for instances"),
        ({"first_instance": None}, "layer a, part 1 has None for first_instance"),
        ({"first_instance": 7}, r"part 1 begins with the instances \[5, 7\] in different layers"),
    ],
)
def test_damaged_metadata_of_a_part(tmp_path, changes, says):
    write(tmp_path / "run", 1, 5, 9)
    damage(tmp_path / "run/a/part-1/states/zarr.json", **changes)
    with pytest.raises(ValueError, match=says):
        open_run(tmp_path / "run")
    with pytest.raises(ValueError, match=says):
        RunWriter(tmp_path / "run", mode="resume", part=1, first_instance=5)
    assert not list((tmp_path / "run").glob(".lock*"))


def test_fewer_rows_than_were_committed_are_not_made_up(tmp_path):
    """As after a kill, while a layer was being reset."""
    write(tmp_path / "run", 1, 0, 9)
    as_before_checksums(tmp_path / "run")
    damage(tmp_path / "run/a/part-1/states/zarr.json", rows=12)
    check(tmp_path / "run", range(3))
    writer = open_part(tmp_path / "run", 1, 0, "resume")
    assert writer.committed_before == 3
    put(writer, 3, 9)
    writer.close()
    check(tmp_path / "run", range(9))


def test_a_part_that_a_writer_is_about_to_make_is_not_damage(tmp_path):
    path = tmp_path / "run"
    write(path, 0, 0, 5)
    (path / "a/part-1").mkdir()
    check(path, range(5))
    shutil.copy(path / "a/zarr.json", path / "a/part-1/zarr.json")
    (path / "a/part-1/states").mkdir()
    (path / "c").mkdir()
    (path / "zarr.123.partial").touch()
    check(path, range(5))
    (path / "a/part-1/states/c").mkdir()
    with pytest.raises(ValueError, match=r"layer a, part-1 has no array 'states'.*damaged"):
        open_run(path)


def test_reading_a_run_that_is_written_tells_zarr_nothing_of_locks(tmp_path):
    writer = open_part(tmp_path / "run", 1, 0)
    assert (tmp_path / "run/.lock-1").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_run(tmp_path / "run")
        writer.close()
        RunWriter(tmp_path / "run", mode="resume", part=1, first_instance=0).close()
