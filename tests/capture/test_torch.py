"""Efficiency models on PyTorch: what is recorded equals brute force, and nothing else changes."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate as ts
from tensorstate.storage import open_run
from tests.capture.torch_models import MODELS, Recurrent, Shared, built, sequences, spied, vectors


def packed(x, axis):
    fires = np.moveaxis(x.double().numpy() > 0, axis, -1)
    return np.packbits(fires, axis=-1, bitorder="little").reshape(-1, -(-fires.shape[-1] // 8))


def rows_of(model):
    return {capture.name: np.asarray(capture.raw_states) for capture in model.efficiency_layers}


@pytest.mark.parametrize("moment", ["after", "before"])
@pytest.mark.parametrize("name", MODELS)
def test_states_of_every_kind_of_model_equal_a_spied_pass(name, moment, tmp_path):
    model, x, attach_to = built(name)
    plain, seen = spied(model, x, attach_to, moment)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    path = tmp_path / "run"
    assert ts.build_efficiency_model(model, attach_to, (), moment, path) is model
    with torch.inference_mode():
        assert torch.equal(model(x), plain)
    axis = 1 if name == "convolutional" else -1
    expected = {key: packed(value, axis) for key, value in seen.items()}
    assert list(rows_of(model)) == list(expected)
    for key, rows in rows_of(model).items():
        np.testing.assert_array_equal(rows, expected[key], err_msg=key)
    assert model.state_dict().keys() == state.keys()
    assert ts.remove_state_layers(model) is model
    assert not hasattr(model, "efficiency_layers")
    model(x)
    run = open_run(path)
    assert list(run) == list(expected)
    assert run.instances == len(x)


@pytest.mark.parametrize("when", ["before", "after", "after it ran"])
def test_compiled_models_record_whenever_they_were_compiled(when):
    model, x, attach_to = built("convolutional")
    _, seen = spied(model, x, attach_to)
    if when == "before":
        ts.build_efficiency_model(model, attach_to)
    compiled = torch.compile(model, backend="eager")
    if when == "after it ran":
        compiled(x)
    if when != "before":
        ts.build_efficiency_model(compiled, attach_to)
    compiled(x)
    for key, rows in rows_of(compiled).items():
        np.testing.assert_array_equal(rows, packed(seen[key], 1), err_msg=key)
    captures = compiled.efficiency_layers
    ts.remove_state_layers(compiled)
    compiled(x)
    assert {c.instance_count for c in captures} == {len(x)}


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_does_not_record_twice(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(6, 3)

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.dense, x, use_reentrant=reentrant)

    model = ts.build_efficiency_model(Checkpointed(), "dense")
    model(vectors(5).requires_grad_()).sum().backward()
    assert [c.instance_count for c in model.efficiency_layers] == [5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype):
    model = ts.build_efficiency_model(nn.Sequential(nn.Linear(6, 11)), "Linear", threshold=0.1)
    with torch.autocast("cpu", dtype):
        output = model(vectors(40))
    assert output.dtype == dtype
    fires = (output > torch.tensor(0.1, dtype=dtype)).numpy()
    expected = np.packbits(fires, axis=-1, bitorder="little")
    np.testing.assert_array_equal(rows_of(model)["0_states"], expected)


def test_instances_on_axis_1_are_moved():
    model = Recurrent(batch_first=False)
    x = sequences(7).movedim(0, 1)
    _, seen = spied(model, x, ["LSTM"])
    ts.build_efficiency_model(model, "LSTM")
    model(x)
    expected = packed(seen["lstm_states"].movedim(1, 0), -1)
    np.testing.assert_array_equal(rows_of(model)["lstm_states"], expected)
    assert model.efficiency_layers[0].instance_count == 7


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_do_not_record(copied):
    model = ts.build_efficiency_model(Shared(), "Linear")
    other = copied(model)
    other(vectors(5))
    assert other.efficiency_layers == []
    assert [c.state_count for c in model.efficiency_layers] == [0, 0]


def test_symbolic_passes_are_not_recorded():
    model = ts.build_efficiency_model(Shared().to("meta"), "Linear")
    model(vectors(5).to("meta"))
    assert {c.state_count for c in model.efficiency_layers} == {0}


def test_a_layer_that_a_pass_does_not_reach_is_told():
    model = ts.build_efficiency_model(nn.MultiheadAttention(8, 2, batch_first=True), "out_proj")
    x = sequences(3)
    with pytest.warns(RuntimeWarning, match="did not reach out_proj_states"):
        model(x, x, x)


@pytest.mark.parametrize("output", [{"a": 1}, None, ()])
def test_outputs_that_are_no_tensor(output):
    class Odd(nn.Module):
        def forward(self, x):
            return output

    model = ts.build_efficiency_model(nn.Sequential(Odd()), "Odd")
    with pytest.raises(ValueError, match=r"output of module '0' \(Odd\) is a .*, not a tensor"):
        model(vectors(3))


def test_a_hook_placed_by_hand():
    layer = nn.Linear(6, 9)
    with ts.StateCaptureHook("probe").attach(layer) as capture:
        output = layer(vectors(20)).detach()
    np.testing.assert_array_equal(np.asarray(capture.raw_states), packed(output, 1))
    layer(vectors(5))
    assert capture.instance_count == 20
