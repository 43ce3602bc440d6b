"""How many parameters PyTorch modules have, also where their number is known late."""

import numpy as np
import pytest
import torch
import zarr
from torch import nn

import tensorstate as ts
from tests.capture import torch_models
from tests.storage.metadata import as_before_checksums


def captured_run(model, x, path, attach_to, **options):
    """Capture modules of a model, and reopen what was stored."""
    ts.build_efficiency_model(model, attach_to, storage_path=path, **options)
    with torch.no_grad():
        model(x)
    known = {layer.name: layer.parameter_count for layer in model.efficiency_layers}
    ts.remove_state_layers(model)
    run = ts.open_run(path)
    assert {name: layer.parameter_count for name, layer in run.items()} == known
    return run


def numbers(module):
    """Numbers in parameters, those that train apart."""
    once = {id(p): (p.numel(), p.requires_grad) for p in module.parameters()}.values()
    return sum(n for n, _ in once), sum(n for n, trains in once if trains)


@pytest.mark.parametrize("histogram", ["stored", "live"])
@pytest.mark.parametrize("name", torch_models.MODELS)
def test_any_model(name, histogram, tmp_path):
    model, x, attach_to = torch_models.built(name)
    next(model.parameters()).requires_grad_(False)
    run = captured_run(model, x, tmp_path / "run", attach_to, histogram=histogram)
    assert (run.parameters, run.trainable_parameters) == numbers(model)
    assert run.parameters > run.trainable_parameters
    for layer in run.values():
        module = model.get_submodule(layer._layer_info().source_layer)
        assert (layer.parameter_count, layer.trainable_parameter_count) == numbers(module)
    assert run.summary()["parameters"].tolist() == [r.parameter_count for r in run.values()]


@pytest.mark.parametrize("method", ["after", "before"])
def test_lazy_modules(method, tmp_path):
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.Sequential(nn.LazyLinear(7)))
    attach_to = ["LazyConv2d", "LazyLinear"]
    run = captured_run(model, torch_models.images(5), tmp_path / "run", attach_to, method=method)
    assert [layer.parameter_count for layer in run.values()] == [40, 7 * 401]
    assert run.parameters == run.trainable_parameters == 40 + 7 * 401


def test_a_container_of_lazy_modules_is_met_before_they_are_known(tmp_path):
    inner = nn.Sequential(nn.LazyLinear(7))
    model = nn.Sequential(nn.Linear(6, 5), inner)
    run = captured_run(
        model, torch_models.vectors(4), tmp_path / "run", ["1", "Linear"], method="before"
    )
    assert [layer.parameter_count for layer in run.values()] == [35, None]
    assert run.parameters == 35 + 42


def test_tied_weights_count_once_in_a_model(tmp_path):
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    run = captured_run(model, torch_models.vectors(4), tmp_path / "run", "Linear")
    assert [layer.parameter_count for layer in run.values()] == [42, 42]
    assert run.parameters == 36 + 6 + 6
    table = ts.aIQ_by_weight({"run": (run, 0.9), "told": (run, 0.9, 7)}, weights=[2])
    assert table["parameters"].tolist() == [48, 7]
    assert table.loc[("run", 2), "aIQ"] == ts.aIQ(ts.network_efficiency(run), 0.9, 2)


def test_a_module_of_lightning(tmp_path):
    pl = pytest.importorskip("lightning.pytorch")

    class Network(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(6, 5)

        def forward(self, x):
            return self.dense(x)

    run = captured_run(Network(), torch_models.vectors(4), tmp_path / "run", "dense")
    assert run.parameters == run["dense_states"].parameter_count == 35


def test_a_compiled_module(tmp_path):
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    compiled = torch.compile(model, backend="eager")
    run = captured_run(compiled, torch_models.vectors(4), tmp_path / "run", "Linear")
    assert run.parameters == run["0_states"].parameter_count == 35


def test_a_resumed_run_goes_on_with_the_same_network(tmp_path):
    x = torch_models.vectors(4)
    captured_run(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), x, tmp_path / "run", "ReLU")
    other = nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU())
    with pytest.raises(ValueError, match="with 35 parameters, but is to go on with 30"):
        ts.build_efficiency_model(other, "ReLU", storage_path=tmp_path / "run", mode="resume")
    assert not hasattr(other, "efficiency_layers")
    same = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    run = captured_run(same, x, tmp_path / "run", "ReLU", mode="resume")
    assert (run.instances, run.parameters) == (8, 35)


def test_a_run_without_instances_is_begun_by_any_network(tmp_path):
    first = nn.Sequential(nn.Linear(6, 5))
    ts.build_efficiency_model(first, "Linear", storage_path=tmp_path / "run")
    ts.remove_state_layers(first)
    assert ts.open_run(tmp_path / "run").parameters == 35
    other, x = nn.Sequential(nn.Linear(6, 9)), torch_models.vectors(4)
    run = captured_run(other, x, tmp_path / "run", "Linear", mode="resume")
    assert (run.instances, run.parameters) == (4, 63)


def test_a_layer_that_lost_parameters_is_not_resumed(tmp_path):
    """The network has as many as before, but they are elsewhere."""
    x = torch_models.vectors(4)
    first = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 5, bias=False))
    captured_run(first, x, tmp_path / "run", "0")
    other = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 5))
    ts.build_efficiency_model(other, "0", storage_path=tmp_path / "run", mode="resume")
    with pytest.raises(ValueError, match=r"layer 0_states.* with 35 parameters, .* with 30"):
        other(x)
    ts.remove_state_layers(other)
    assert ts.open_run(tmp_path / "run").instances == 4


def test_runs_that_older_versions_wrote_learn_what_they_lack(tmp_path):
    with ts.StateRecorder("0_states", tmp_path / "run") as recorder:
        recorder.record(np.ones((4, 5)))
    as_before_checksums(tmp_path / "run")
    group = zarr.open_group(tmp_path / "run" / "0_states", mode="r+")
    group.update_attributes({"source_layer": "0"})
    model = nn.Sequential(nn.Linear(6, 5))
    again = captured_run(model, torch_models.vectors(4), tmp_path / "run", "0", mode="resume")
    assert (again.instances, again.parameters, again["0_states"].parameter_count) == (8, 35, 35)


@pytest.mark.parametrize(
    "damage", [7, {"total": 5}, {"total": 3, "trainable": 4}, {"total": "3", "trainable": 3}]
)
def test_damaged_metadata(tmp_path, damage):
    captured_run(nn.Linear(6, 5), torch_models.vectors(4), tmp_path / "run", "Linear")
    group = zarr.open_group(tmp_path / "run", mode="r+")
    for damaged, where in ((group["Linear_states"], "layer Linear_states"), (group, "run")):
        before = damaged.attrs["parameters"]
        damaged.attrs["parameters"] = damage
        with pytest.raises(ValueError, match=rf"{where}.* as its parameters: its metadata is"):
            ts.open_run(tmp_path / "run")
        damaged.attrs["parameters"] = before
    assert ts.open_run(tmp_path / "run").parameters == 35


def test_what_is_salvaged_keeps_them(tmp_path):
    run = captured_run(nn.Linear(6, 5), torch_models.vectors(4), tmp_path / "run", "Linear")
    salvaged = run.salvage(tmp_path / "salvaged")
    assert salvaged.parameters == salvaged.summary()["parameters"].item() == 35
