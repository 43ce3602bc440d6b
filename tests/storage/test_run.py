"""Reopened runs, and what is not one."""

import json
import tracemalloc

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from tensorstate.storage import LayerInfo, RunWriter, open_run
from tests.storage.metadata import edit


def two_layers(store):
    writer = RunWriter(store, layers=2, model="net")
    writer.add_layer("z_first", LayerInfo(4, 2, index=0, source_layer="z"))
    writer.add_layer("a_second", LayerInfo(9, 1, index=1, source_layer="a"))
    writer.put("z_first", np.array([[1], [1], [2], [3]], np.uint8))
    writer.put("a_second", np.array([[0, 1], [0, 0]], np.uint8))
    writer.close()


@pytest.fixture
def run_path(tmp_path):
    two_layers(tmp_path / "run.zarr")
    return tmp_path / "run.zarr"


def test_a_run_is_a_mapping_in_the_order_of_the_network(run_path):
    run = open_run(run_path)
    assert list(run) == ["z_first", "a_second"]
    assert len(run) == 2
    assert "z_first" in run
    assert "conv" not in run
    assert run.instances == 2
    assert run.attributes["model"] == "net"
    assert "2 layers, 2 instances" in repr(run)
    assert run["z_first"].name == "z_first"
    with pytest.raises(KeyError, match=r"no layer 'conv'.*there are: z_first, a_second"):
        run["conv"]


def test_every_way_to_name_a_store(run_path):
    memory = MemoryStore()
    two_layers(memory)
    for store in (run_path, str(run_path), LocalStore(run_path), f"file://{run_path}", memory):
        assert open_run(store)["z_first"].state_count == 4


def test_summary(run_path):
    summary = open_run(run_path).summary()
    assert list(summary.index) == ["z_first", "a_second"]
    assert summary["parameters"].isna().all()
    assert summary.drop(columns="parameters").loc["z_first"].to_dict() == {
        "neurons": 4,
        "positions": 2,
        "instances": 2,
        "states": 4,
        "distinct": 3,
        "entropy": pytest.approx(1.5),
        "efficiency": pytest.approx(0.375),
        "singletons": 2,
        "coverage": 0.5,
        "distinct_at_least": pytest.approx(3 + 3 / 4 * 4 / 2),
        "ceiling": 0.5,
        "flag": "ceiling: entropy cannot exceed log2(states) = 2.0 bits",
    }
    assert "z_first" in open_run(run_path)._repr_html_()


def test_summary_of_a_run_without_states(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.add_layer("a", LayerInfo(4, 2))
    writer.close()
    summary = open_run(tmp_path / "run").summary()
    assert summary.loc["a", "states"] == 0
    assert np.isnan(summary.loc["a", "efficiency"])
    assert summary.loc["a", ["singletons", "flag"]].tolist() == [0, ""]
    assert summary.loc["a", ["coverage", "distinct_at_least", "ceiling"]].isna().all()
    RunWriter(tmp_path / "none").close()
    assert len(open_run(tmp_path / "none").summary()) == 0


def test_names_of_layers_are_shown_as_text(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.add_layer("<script>alert(1)</script>".replace("/", "|"), LayerInfo(4, 2))
    writer.close()
    assert "<script>" not in open_run(tmp_path / "run")._repr_html_()


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing is there"):
        open_run(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_something_else_is_there(tmp_path):
    (tmp_path / "file").write_text("text")
    zarr.create_group(tmp_path / "group")
    zarr.create_array(tmp_path / "array", shape=(3,), dtype="u1")
    for name in ("file", "group", "array"):
        with pytest.raises(ValueError, match="not a run of tensorstate"):
            open_run(tmp_path / name)
    with pytest.raises(ValueError, match="not a run of tensorstate"):
        open_run(tmp_path)


def test_a_newer_format(run_path):
    edit(run_path / "zarr.json", lambda attributes: attributes["tensorstate"].update(format=2))
    with pytest.raises(ValueError, match=r"store format 2, but this tensorstate .* reads format 1"):
        open_run(run_path)


@pytest.mark.parametrize(
    ("where", "change", "says"),
    [
        ("zarr.json", lambda a: a.pop("instances"), "None instances are committed"),
        ("a_second/zarr.json", lambda a: a.pop("neurons"), "layer a_second has no attribute"),
        ("a_second/zarr.json", lambda a: a.update(neurons=90), "neurons need 12"),
        ("a_second/part-0/states/zarr.json", lambda a: a.update(rows=7), "7 rows are committed"),
        ("a_second/part-0/states/zarr.json", lambda a: a.update(rows="2"), "metadata is damaged"),
    ],
)
def test_damaged_metadata(run_path, where, change, says):
    edit(run_path / where, change)
    with pytest.raises(ValueError, match=says):
        open_run(run_path)


@pytest.mark.parametrize("left", ["nothing", "an array"])
def test_a_layer_that_lost_its_metadata_is_not_left_out(run_path, left):
    document = run_path / "z_first/zarr.json"
    document.unlink()
    if left == "an array":
        document.write_bytes((run_path / "a_second/part-0/states/zarr.json").read_bytes())
    with pytest.raises(ValueError, match="has parts of z_first, but not what was captured there"):
        open_run(run_path)


@pytest.mark.parametrize(
    ("where", "changes", "says"),
    [
        ("zarr.json", {"instances": 1}, "run.zarr has attributes with the checksum"),
        ("a_second/zarr.json", {"threshold": 1.0}, "layer a_second has attributes with the check"),
        ("a_second/zarr.json", {"neurons": 10}, "layer a_second has attributes with the checksum"),
        ("a_second/part-0/states/zarr.json", {"first_instance": 1}, "part 0 has attributes with"),
    ],
)
def test_metadata_that_make_sense_and_are_not_what_was_stored(run_path, where, changes, says):
    document = run_path / where
    metadata = json.loads(document.read_text())
    metadata["attributes"].update(changes)
    document.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=says):
        open_run(run_path)


def test_metadata_of_another_layer(run_path):
    two = run_path.parent / "two.zarr"
    writer = RunWriter(two, layers=2)
    for index, name in enumerate("ab"):
        writer.add_layer(name, LayerInfo(8, 1, threshold=float(index), index=index))
        writer.put(name, np.zeros((5, 1), np.uint8))
    writer.close()
    (two / "a/zarr.json").write_bytes((two / "b/zarr.json").read_bytes())
    with pytest.raises(ValueError, match="layer a has attributes with the checksum"):
        open_run(two)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"neurons": 0}, "has 0 for neurons, which makes no sense"),
        ({"neurons": "9"}, "has '9' for neurons"),
        ({"neurons": 10**15}, "has 1000000000000000 for neurons"),
        ({"positions": 0}, "has 0 for positions"),
        ({"positions": 2**64}, "has 18446744073709551616 for positions"),
        ({"positions": True}, "has True for positions"),
        ({"threshold": "0"}, "has '0' for threshold"),
        ({"threshold": [0.0] * 8}, "for threshold"),
        ({"threshold": None}, "has None for threshold"),
        ({"histogram": ["stored"]}, "unknown histogram"),
        ({"source_layer": 3}, "has 3 for source_layer"),
        ({"index": "first"}, "has 'first' for index"),
    ],
)
def test_forged_metadata_of_a_layer(run_path, changes, says):
    edit(run_path / "a_second/zarr.json", lambda attributes: attributes.update(changes))
    with pytest.raises(ValueError, match=f"layer a_second .*{says}"):
        open_run(run_path)


@pytest.mark.parametrize("rows", [1 << 25, 1 << 40, 1 << 47])
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_a_store_that_claims_far_too_much_is_refused_at_once(run_path, rows, chunk):
    """It may be 1 KB, and its checksums fit."""
    document = run_path / "a_second/part-0/states/zarr.json"
    metadata = json.loads(document.read_text())
    metadata["shape"] = [rows, 2]
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = [chunk, 2]
    pieces = []
    while count := rows // chunk // 256 ** len(pieces):
        pieces.append("00" * 8 * (count % 256))
    digests = {"of_piece": 256, "levels": pieces, "last": ""}
    metadata["attributes"].update(rows=rows, digests=digests)
    document.write_text(json.dumps(metadata))
    edit(document, lambda attributes: None)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"says that {rows} rows are committed, but of their"):
            open_run(run_path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


class CreatedMeanwhile(WrapperStore):
    """A store in which somebody creates a run right after its metadata was first looked for."""

    def __init__(self, store, looked=None):
        super().__init__(store)
        self.looked = [] if looked is None else looked

    def _with_store(self, store):
        return type(self)(store, self.looked)

    async def get(self, key, prototype, byte_range=None):
        if key == "zarr.json":
            self.looked.append(key)
            if len(self.looked) == 1:
                return None
        return await super().get(key, prototype, byte_range)


def test_a_run_that_is_created_while_it_is_opened():
    store = MemoryStore()
    two_layers(store)
    assert list(open_run(CreatedMeanwhile(store))) == list(open_run(store))
