"""Efficiency measured while Lightning trains: right, logged, and without a trace in the weights."""

import copy
import csv
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import tensorstate as ts

pl = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint  # noqa: E402
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and devices


def vectors(count, seed=0):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


X = vectors(48)
Y = (X[:, 0] > 0).long()
PROBE = vectors(50, seed=2)


class Noise(nn.Module):
    """Adds noise also when predicting, and counts its calls: what a pass can change."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes = self.passes + 1
        return x + 0.01 * torch.randn(x.shape) * random.random() * np.random.random()  # noqa: NPY002


def module_of(base, noise=True, rate=0.1):
    class Module(base):
        def __init__(self):
            super().__init__()
            torch.manual_seed(4)
            self.first = nn.Linear(6, 12)
            self.rest = nn.Sequential(
                nn.ReLU(), nn.BatchNorm1d(12), Noise() if noise else nn.Identity(), nn.Dropout(0.3)
            )
            self.second = nn.Linear(12, 9)
            self.head = nn.Linear(9, 2)
            self.frozen = nn.BatchNorm1d(6)  # in evaluation mode while the others train
            self.modes = []

        def on_train_epoch_start(self):
            self.frozen.eval()

        def forward(self, x):
            return self.head(torch.relu(self.second(self.rest(self.first(self.frozen(x))))))

        def training_step(self, batch, _):
            self.modes.append([part.training for part in self.modules()])
            outputs = self(batch[0])
            self.log("acc", (outputs.argmax(1) == batch[1]).float().mean(), on_epoch=True)
            return nn.functional.cross_entropy(outputs, batch[1])

        def validation_step(self, batch, _):
            self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), rate)

    return Module()


def module(**options):
    return module_of(pl.LightningModule, **options)


class Epochs(Callback):
    """Keeps what is logged, and measures every epoch in the plain way."""

    def __init__(self):
        self.logged, self.plain = [], []

    def on_train_epoch_end(self, trainer, module):
        self.logged.append({name: float(v) for name, v in trainer.callback_metrics.items()})
        self.plain.append(plain_values(module))


def plain_values(module, probe=PROBE):
    """Efficiencies by brute force, from a copy that nothing is attached to."""
    model = copy.deepcopy(module).eval()
    with torch.no_grad():
        first = model.first(model.frozen(probe))
        outputs = {"first": first, "second": model.second(model.rest(first))}
    values = {}
    for name, output in outputs.items():
        _, counts = np.unique((output > 0).numpy(), axis=0, return_counts=True)
        p = counts / counts.sum()
        values[f"efficiency/{name}"] = -(p * np.log2(p)).sum() / output.shape[-1]
    values["network_efficiency"] = np.sqrt(np.prod(list(values.values())))
    return values


def fit(module, *callbacks, trainer=None, validated=True, ckpt_path=None, loader=None, **options):
    settings = {"max_epochs": 3, "logger": False, "enable_checkpointing": False}
    trainer = (trainer or pl).Trainer(
        **{**settings, **options},
        callbacks=list(callbacks),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    loaders = [loader or DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True)]
    loaders += [DataLoader(TensorDataset(X, Y), batch_size=16)] if validated else []
    trainer.fit(module, *loaders, ckpt_path=ckpt_path)
    return trainer


def test_every_epoch_logs_what_brute_force_says():
    look = Epochs()
    callback = ts.EfficiencyCallback(PROBE, "Linear", exclude="head", weight=3)
    fit(module(noise=False), callback, look)
    assert len(look.logged) == 3
    assert len({values["network_efficiency"] for values in look.plain}) > 1, "nothing is tested"
    for logged, plain in zip(look.logged, look.plain, strict=True):
        for name, value in plain.items():
            assert logged[name] == pytest.approx(value, rel=1e-6)
        aiq = ts.aIQ(logged["network_efficiency"], logged["val_acc"], 3)
        assert logged["aIQ"] == pytest.approx(aiq, rel=1e-6)


class Drawing(Dataset):
    """Draws from every generator when an item is read, as augmentations do."""

    def __len__(self):
        return 50

    def __getitem__(self, number):
        return PROBE[number] + torch.randn(6) * random.random() * np.random.random()  # noqa: NPY002


def trained(base, *callbacks, **options):
    pl.seed_everything(3)
    model, generator = module_of(base), torch.Generator().manual_seed(9)
    loader = DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True, generator=generator)
    trainer = fit(model, *[make(loader) for make in callbacks], loader=loader, **options)
    drawn = random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002
    return model, trainer, drawn


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_training_is_the_same_to_the_last_bit(package):
    package = pytest.importorskip(package)
    data = {
        "draws": lambda loader: DataLoader(Drawing(), batch_size=20, shuffle=True),
        "trained with": lambda loader: loader,
    }
    plain, plain_trainer, plain_drawn = trained(package.LightningModule, trainer=package)
    for make in data.values():
        model, trainer, drawn = trained(
            package.LightningModule,
            lambda loader, make=make: ts.EfficiencyCallback(
                make(loader), ["Linear", "Dropout"], method="both"
            ),
            trainer=package,
        )
        assert 0 < trainer.callback_metrics["network_efficiency"] < 1
        state, plain_state = model.state_dict(), plain.state_dict()
        assert state.keys() == plain_state.keys()
        for key, value in plain_state.items():
            assert torch.equal(state[key], value), key
        assert plain_state["rest.2.passes"] == 2 + 3 * (3 + 3), "the sanity check and three epochs"
        for one, other in zip(
            trainer.optimizers[0].state.values(),
            plain_trainer.optimizers[0].state.values(),
            strict=True,
        ):
            assert all(torch.equal(one[key], other[key]) for key in other)
        assert model.modes == plain.modes
        assert drawn == plain_drawn
        assert not any(part._forward_hooks for part in model.modules()), "a hook is left"


def test_training_is_not_recorded_and_captures_by_hand_keep_what_is_theirs(monkeypatch):
    recorded = []
    record = ts.StateRecorder.record_batch
    monkeypatch.setattr(
        ts.StateRecorder,
        "record_batch",
        lambda self, batch: (recorded.append((self.name, batch.shape[0])), record(self, batch))[1],
    )
    model = module()
    with ts.StateCaptureHook("probe").attach(model.second) as probe:
        callback = ts.EfficiencyCallback(PROBE.numpy().astype(float), "first", batch_size=30)
        fit(model, callback, max_epochs=2, num_sanity_val_steps=0)
        assert [entry for entry in recorded if entry[0] != "probe"] == 2 * [
            ("first_states", 30),
            ("first_states", 20),
        ]
        assert probe.instance_count == 2 * (48 + 48)
        assert probe.capture_on


def test_every_second_epoch_in_the_files_of_loggers(tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    look = Epochs()
    loggers = [CSVLogger(tmp_path, "csv"), TensorBoardLogger(tmp_path, "board")]
    callback = ts.EfficiencyCallback(PROBE, ["first", "second"], every=2)
    fit(module(noise=False), callback, look, max_epochs=4, logger=loggers)
    with open(f"{loggers[0].log_dir}/metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["val_acc"] or row["acc_epoch"]]
    written = [(int(row["epoch"]), row) for row in rows if row["network_efficiency"]]
    assert [epoch for epoch, _ in written] == [0, 2]
    for name in ("efficiency/first", "efficiency/second", "network_efficiency"):
        expected = [look.plain[epoch][name] for epoch in (0, 2)]
        assert [float(row[name]) for _, row in written] == pytest.approx(expected, rel=1e-6)
        board = event_accumulator.EventAccumulator(loggers[1].log_dir).Reload()
        assert [event.value for event in board.Scalars(name)] == pytest.approx(expected, rel=1e-6)
    assert all(row["aIQ"] for _, row in written)


@pytest.mark.parametrize("every", [1, 2])
def test_early_stopping_and_checkpoints_see_it(every, tmp_path):
    # Without a rate nothing changes, and so nothing gets better.
    stop = EarlyStopping("network_efficiency", mode="max", patience=2)
    best = ModelCheckpoint(tmp_path, monitor="network_efficiency", mode="max")
    callback = ts.EfficiencyCallback(PROBE, "first", every=every)
    trainer = fit(
        module(noise=False, rate=0.0), stop, callback, best, max_epochs=9, enable_checkpointing=True
    )
    assert trainer.current_epoch == 3
    assert float(stop.best_score) == float(best.best_model_score) > 0


def test_a_resumed_training_logs_what_one_without_a_break_does(tmp_path):
    def callbacks():
        return ts.EfficiencyCallback(PROBE, ["first", "second"], every=2), Epochs()

    whole, until, after = callbacks(), callbacks(), callbacks()
    save = ModelCheckpoint(tmp_path, save_last=True)
    seeds = {"num_sanity_val_steps": 0}
    pl.seed_everything(3)
    fit(module(noise=False), *whole, max_epochs=5, **seeds)
    pl.seed_everything(3)
    fit(module(noise=False), *until, save, max_epochs=2, enable_checkpointing=True, **seeds)
    fit(module(noise=False), *after, ckpt_path=tmp_path / "last.ckpt", max_epochs=4, **seeds)
    assert until[1].plain == whole[1].plain[:2]
    measured = [values.get("network_efficiency") for values in after[1].logged]
    assert measured[0] == pytest.approx(after[1].plain[0]["network_efficiency"], rel=1e-6)
    assert measured[1] == measured[0], "only every second epoch is measured"
    assert after[0].state_dict() == {"epochs": 4, "accuracy": "val_acc"}


def test_the_first_epoch_of_a_resumed_training_is_measured_beside_the_others():
    log = ts.EfficiencyCallback(PROBE, "first", every=3)._log
    assert [log.count_epoch() for _ in range(5)] == [True, False, False, True, False]
    resumed = ts.EfficiencyCallback(PROBE, "first", every=3)._log
    resumed.restore(log.state())
    assert [resumed.count_epoch() for _ in range(5)] == [True, True, False, False, True]


def test_an_accuracy_of_another_epoch_is_not_taken():
    look = Epochs()
    callback = ts.EfficiencyCallback(PROBE, "first", accuracy="val_acc")
    with_aiq = []

    class Look(Callback):
        def on_train_epoch_end(self, trainer, module):
            with_aiq.append("aIQ" in trainer._results.metrics(False)["log"])

    fit(module(), callback, look, Look(), max_epochs=4, check_val_every_n_epoch=2)
    assert with_aiq == [False, True, False, True]


def test_a_threshold_that_a_function_finds_stays_for_the_training():
    medians, activations = [], []

    def median(x):
        medians.append(np.median(x, axis=0))
        return medians[-1]

    class Look(Epochs):
        def on_train_epoch_end(self, trainer, module):
            super().on_train_epoch_end(trainer, module)
            with torch.no_grad():
                activations.append(module.first(PROBE).numpy())

    look, model = Look(), module(noise=False)
    model.frozen = nn.Identity()
    callback = ts.EfficiencyCallback(PROBE, "first", batch_size=50, threshold=median)
    fit(model, callback, look)
    assert len(medians) == 1
    for epoch, x in enumerate(activations):
        _, counts = np.unique(x > medians[0], axis=0, return_counts=True)
        p = counts / counts.sum()
        expected = -(p * np.log2(p)).sum() / x.shape[-1]
        assert look.logged[epoch]["efficiency/first"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_it_measures_in_the_precision_of_the_training(precision):
    model = module(noise=False)
    callback = ts.EfficiencyCallback(PROBE.numpy(), ["first", "second"], batch_size=50)
    trainer = fit(model, callback, max_epochs=1, precision=precision)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        expected = plain_values(model, PROBE.to(model.dtype))
    for name, value in expected.items():
        assert float(trainer.callback_metrics[name]) == pytest.approx(value, rel=1e-6)


def test_what_is_compiled_is_measured_and_not_compiled_again():
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    def module_of_compiled_parts():
        torch.compiler.reset()
        compiled.clear()
        model = module(noise=False)
        for name in ("first", "rest", "second"):
            setattr(model, name, torch.compile(getattr(model, name), backend=backend))
        return model

    look = Epochs()
    callback = ts.EfficiencyCallback(PROBE, ["first", "second"])
    fit(module_of_compiled_parts(), callback, look, validated=False)
    for logged, plain in zip(look.logged, look.plain, strict=True):
        for name, value in plain.items():
            assert logged[name] == pytest.approx(value, rel=1e-6)
    graphs = len(compiled)
    fit(module_of_compiled_parts(), Epochs(), validated=False)
    assert len(compiled) == graphs > 0


# Wrong use.


@pytest.mark.parametrize(
    ("args", "options", "error", "says"),
    [
        (["third"], {}, ValueError, "no layer has the class or the name 'third'"),
        (["first"], {"method": "during"}, ValueError, "unknown method 'during'"),
        (["first"], {"threshold": np.nan}, ValueError, "finite number"),
    ],
)
def test_what_cannot_be_captured_is_told_before_training(args, options, error, says):
    model = module()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=says):
        fit(model, ts.EfficiencyCallback(PROBE, *args, **options))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_failure_leaves_no_hook_and_names_its_cause():
    model = module()
    with pytest.raises(ValueError, match=r"needs the accuracy 'top5', but the epoch logged .*acc"):
        fit(model, ts.EfficiencyCallback(PROBE, "first", accuracy="top5"))
    with pytest.raises(RuntimeError, match="should contain 3 elements not 6"):
        fit(model, ts.EfficiencyCallback(vectors(5)[:, :3], "first"))
    assert not any(part._forward_hooks for part in model.modules())
    assert model.first.training


def test_a_dataset_of_another_framework_is_refused():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices(PROBE.numpy()).batch(8)
    with pytest.raises(TypeError, match="arrays, tensors or a DataLoader, not on a _Batch"):
        fit(module(), ts.EfficiencyCallback(data, "first"))
