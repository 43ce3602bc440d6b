"""PyTorch captures in the ways that people run models: loaders, Lightning, several processes."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tensorstate as ts


def packed(x, threshold=0.0):
    fires = np.asarray(x.detach().double().numpy() > threshold)
    return np.packbits(fires, axis=-1, bitorder="little").reshape(-1, -(-fires.shape[-1] // 8))


def vectors(count, seed=0):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def dense(neurons=9, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, neurons), nn.ReLU(), nn.Linear(neurons, 3))


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_in_the_order_of_a_loader_with_workers(workers, tmp_path):
    x, model = vectors(53), dense()
    expected = packed(model[0](x))
    model = ts.build_efficiency_model(model, "0", storage_path=tmp_path / "run")
    with torch.inference_mode():
        for (batch,) in DataLoader(TensorDataset(x), batch_size=8, num_workers=workers):
            model(batch)
    ts.remove_state_layers(model)
    run = ts.open_run(tmp_path / "run")
    assert run.instances == 53
    np.testing.assert_array_equal(run["0_states"].raw_states[:], expected)


def test_training_goes_on_as_without_captures():
    def trained(captured):
        model = dense()
        if captured:
            ts.build_efficiency_model(model, ["Linear", "ReLU"], method="both")
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        for step in range(5):
            optimizer.zero_grad()
            model(vectors(16, step)).square().mean().backward()
            optimizer.step()
        return model

    plain, captured = trained(False), trained(True)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, captured.state_dict()[key])
    assert {c.instance_count for c in captured.efficiency_layers} == {80}


def test_lightning(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = dense()
            self.seen = []

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, _):
            self.seen.append(self.net[0](batch[0]).detach().clone())
            return self(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    module = ts.build_efficiency_model(Module(), "ReLU", storage_path=tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(TensorDataset(vectors(24)), batch_size=8, num_workers=2))
    ts.remove_state_layers(module)
    layer = ts.open_run(tmp_path / "run")["net.1_states"]
    np.testing.assert_array_equal(layer.raw_states[:], packed(torch.cat(module.seen)))
    assert layer.instance_count == 48


def test_thresholds_for_each_neuron_and_from_the_first_batch():
    x, limits = vectors(40), np.linspace(-1, 1, 9)
    model = dense()
    outputs = model[0](x)
    each = ts.StateCaptureHook("each", threshold=limits).attach(model[0])
    medians = ts.StateCaptureHook("medians", threshold=lambda v: np.median(v, axis=0))
    medians.attach(model[0])
    model(x)
    np.testing.assert_array_equal(each.raw_states[:], packed(outputs, np.float32(limits)))
    middle = np.median(outputs.detach().numpy(), axis=0)
    np.testing.assert_array_equal(medians.raw_states[:], packed(outputs, middle))
    assert medians.threshold == tuple(middle.astype(float))


def test_medians_of_bfloat16():
    x = vectors(40).bfloat16()
    model = dense().bfloat16()
    outputs = model[0](x)
    hook = ts.StateCaptureHook("a", threshold=lambda v: np.median(v, axis=0)).attach(model[0])
    model(x)
    middle = torch.tensor(np.median(outputs.detach().float().numpy(), axis=0)).bfloat16()
    np.testing.assert_array_equal(hook.raw_states[:], packed(outputs, middle.double().numpy()))


def test_half_precision_models():
    model = dense().half()
    x = vectors(30).half()
    outputs = model[0](x)
    ts.build_efficiency_model(model, "0")
    model(x)
    np.testing.assert_array_equal(model.efficiency_layers[0].raw_states[:], packed(outputs))


def test_nan_is_warned_of_once():
    model = ts.build_efficiency_model(nn.Sequential(nn.ReLU()), "ReLU")
    x = torch.full((4, 6), torch.nan)
    with pytest.warns(RuntimeWarning, match="met 24 NaN activations"):
        model(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)
    assert model.efficiency_layers[0].counts().tolist() == [8]


def test_a_run_is_resumed(tmp_path):
    x, model = vectors(30), dense()
    expected = packed(model[0](x))
    for part, mode in ((x[:12], "x"), (x[12:], "resume")):
        ts.build_efficiency_model(model, "0", storage_path=tmp_path / "run", mode=mode)
        model(part)
        ts.remove_state_layers(model)
    np.testing.assert_array_equal(ts.open_run(tmp_path / "run")["0_states"].raw_states[:], expected)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "says"),
    [
        (["Conv2d"], {}, ValueError, "no layer has the class or the name 'Conv2d'"),
        (["Linear"], {"method": "during"}, ValueError, "unknown method 'during'"),
        (["Linear"], {"mode": "a"}, ValueError, "unknown mode 'a'"),
        (["Linear"], {"threshold": np.nan}, ValueError, "finite number"),
        (["Linear"], {"exclude": "Linear"}, ValueError, "no layer is left"),
        (["Linear"], {"part": "a"}, ValueError, "lacks first_instance"),
    ],
)
def test_wrong_use_leaves_nothing(arguments, options, error, says, tmp_path):
    model = dense()
    with pytest.raises(error, match=says):
        ts.build_efficiency_model(model, *arguments, storage_path=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(TypeError, match="cannot be captured"):
        ts.build_efficiency_model(object(), "Linear")


def test_a_model_is_not_built_twice():
    model = ts.build_efficiency_model(dense(), "Linear")
    with pytest.raises(ValueError, match="has captures already"):
        ts.build_efficiency_model(model, "Linear")


RANK = """
import os, sys, torch, tensorstate as ts
import torch.distributed as dist
from torch import nn
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}",
                        rank=int(os.environ["RANK"]), world_size=2)
torch.manual_seed(0)
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(6, 9), nn.ReLU()))
x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
mine = x[20 * dist.get_rank():][:20]
ts.build_efficiency_model(model, "ReLU", storage_path=sys.argv[1], part="rank",
                          first_instance=20 * dist.get_rank())
with torch.inference_mode():
    for batch in mine.split(6):
        model(batch)
ts.remove_state_layers(model)
dist.destroy_process_group()
"""


def test_two_ranks_write_one_run(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, tmp_path / "run", tmp_path / "meet"],
            env={**os.environ, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU())
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    run = ts.open_run(tmp_path / "run")
    assert run.instances == 40
    (layer,) = run.values()
    np.testing.assert_array_equal(layer.raw_states[:], packed(model(x)))
