"""Reopened runs, and what is not one."""

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore

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
    assert summary.loc["z_first"].to_dict() == {
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
