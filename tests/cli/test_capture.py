"""`tensorstate capture` against brute force: models and data of all kinds, parts, and refusals."""

import json
import re
import sys

import keras
import numpy as np
import pytest
import torch

import tensorstate as ts
from tests.cli.programs import (
    ARRAY,
    ARRAY_NAME,
    NET,
    SHAPE,
    STREAM_NAME,
    asked_to_start,
    counts_of,
    expected_counts,
    net,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    np.save(folder / "data.npy", ARRAY)
    np.save(folder / "last.npy", np.moveaxis(ARRAY, 1, 3))
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Input((8, 8, 1)),
        keras.layers.Conv2D(6, 3, name="conv_1"),
        keras.layers.Dropout(0.5),
        keras.layers.BatchNormalization(),
        keras.layers.Conv2D(5, 2, name="conv_2"),
        keras.layers.Flatten(),
        keras.layers.Dense(4, name="pred"),
    ]
    model = keras.Sequential(layers)
    model.save(folder / "model.keras")
    model.export(folder / "saved", verbose=False)
    plain, example = net().eval(), (torch.rand(2, *SHAPE),)
    torch.jit.script(plain).save(folder / "script.pt")
    any_batch = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(plain, example, dynamic_shapes=any_batch)
    torch.export.save(exported, folder / "exported.pt2")
    torch.export.save(torch.export.export(plain, example), folder / "fixed.pt2")
    for number, layer in enumerate([torch.nn.Dropout(), torch.nn.BatchNorm2d(6)]):
        trained = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), layer).train()
        program = torch.export.export(trained, example, dynamic_shapes=any_batch)
        torch.export.save(program, folder / f"training_{number}.pt2")
    torch.save(plain.state_dict(), folder / "weights.pt")
    (folder / "text.keras").write_text("no model")
    np.save(folder / "empty.npy", ARRAY[:0])
    np.save(folder / "number.npy", np.float32(1))
    np.save(folder / "bytes.npy", np.ones(ARRAY.shape, np.uint8))
    return folder


def test_a_keras_file_as_in_the_notebook(here, folder, tmp_path):
    data = folder / "last.npy"
    ended = here(
        *("capture", folder / "model.keras", data, "-o", tmp_path / "run", "--batch-size", 25),
        *("--attach-to", "Conv2D", "--exclude", "conv_2", "--method", "both"),
    )
    assert ended.returncode == 0, ended.stderr
    assert "60 instances of conv_1_pre_states, conv_1_states" in ended.stdout
    assert "capturing: 60 of 60 instances in" in ended.stderr
    model = ts.build_efficiency_model(
        keras.models.load_model(folder / "model.keras"), "conv_1", method="both"
    )
    model.predict(np.load(data), verbose=0)
    run = ts.open_run(tmp_path / "run")
    for layer in model.efficiency_layers:
        assert counts_of(run[layer.name]) == counts_of(layer)


def test_only_the_outputs_of_a_saved_model(here, folder, tmp_path):
    arguments = ("capture", folder / "saved", folder / "last.npy", "-o", tmp_path / "run")
    ended = here(*arguments, "--attach-to", "conv_1")
    assert ended.returncode == 1
    assert (
        "cannot be probed, and so not 'conv_1': attach to its outputs ('output_0')" in ended.stderr
    )
    assert not (tmp_path / "run").exists()
    assert here(*arguments, "--attach-to", "output_0", "--quiet").returncode == 0
    model = keras.models.load_model(folder / "model.keras")
    fires = model.predict(np.load(folder / "last.npy"), verbose=0) > 0
    found = ts.open_run(tmp_path / "run")["output_0_states"]
    np.testing.assert_array_equal(found.raw_states, np.packbits(fires, axis=1, bitorder="little"))


PYTORCH = [
    (NET, "Conv2d", 0, ()),
    ("exported.pt2", "Conv2d", 0, ("--channel-axis", 1)),
    ("script.pt", "output", 3, ("--channel-axis", 1)),
]
FIXED = ("fixed.pt2", "Conv2d", 0, ("--channel-axis", 1, "--batch-size", 2), "data.npy")


@pytest.mark.parametrize(
    ("model", "layer", "module", "options", "data"),
    [FIXED, *((*model, data) for model in PYTORCH for data in ("data.npy", STREAM_NAME))],
)
def test_pytorch_against_brute_force(here, folder, tmp_path, model, layer, module, options, data):
    model = model if model == NET else folder / model
    data = data if data == STREAM_NAME else folder / data
    ended = here(
        "capture", model, data, "-o", tmp_path / "run", "--attach-to", layer, *options, "--json"
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["instances"], told["complete"], told["resume"]) == (60, True, None)
    (found,) = ts.open_run(tmp_path / "run").values()
    assert counts_of(found) == expected_counts(ARRAY, module)


def test_whole_numbers_become_what_the_network_takes(here, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), np.uint8)
    np.save(tmp_path / "data.npy", pixels)
    arguments = ("capture", NET, tmp_path / "data.npy", "-o", tmp_path / "run", "--attach-to", "0")
    ended = here(*arguments, "--threshold", 0)
    assert ended.returncode == 1
    assert "the model does not take what is in" in ended.stderr
    assert here(*arguments, "--rescale", "1/4").returncode == 0
    found = ts.open_run(tmp_path / "run")["0_states"]
    assert counts_of(found) == expected_counts(pixels.astype(np.float32) / 4)


def test_resume_reads_nothing_twice(here, tmp_path):
    arguments = ("capture", NET, STREAM_NAME, "-o", tmp_path / "run", "--attach-to", "0")
    assert here(*arguments, "--limit", 21).returncode == 0
    asked_to_start.clear()
    assert here(*arguments, "--limit", 30, "--resume").returncode == 0
    assert here(*arguments, "--resume").returncode == 0
    assert asked_to_start == [21, 30]
    assert counts_of(ts.open_run(tmp_path / "run")["0_states"]) == expected_counts(ARRAY)
    again = here(*arguments, "--resume")
    assert again.returncode == 0
    assert "60 instances" in again.stdout


def test_a_run_that_is_there(here, tmp_path):
    arguments = ("capture", NET, ARRAY_NAME, "-o", tmp_path / "run", "--attach-to", "0")
    assert here(*arguments).returncode == 0
    refused = here(*arguments)
    assert refused.returncode == 1
    assert "60 committed instances: choose another storage path, or --overwrite" in refused.stderr
    assert here(*arguments, "--overwrite", "--limit", 10).returncode == 0
    assert ts.open_run(tmp_path / "run").instances == 10
    assert here(*arguments, "--resume").returncode == 0
    less = here(*arguments, "--resume", "--limit", 10)
    assert less.returncode == 1
    assert "has 60 committed instances, but there are only 10" in less.stderr


def test_shards_and_parts_are_one_run(here, tmp_path):
    for shard in ("2/3", "0/3"):
        arguments = ("--attach-to", "0", "--shard", shard, "--quiet")
        ended = here("capture", NET, ARRAY_NAME, "-o", tmp_path / "run", *arguments)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert f"part {shard[0]} of {tmp_path / 'run'}: 20 instances" in ended.stdout
    np.save(tmp_path / "middle.npy", ARRAY[20:40])
    arguments = ("--attach-to", "0", "--part", "middle", "--first-instance", 20)
    assert here("capture", NET, tmp_path / "middle.npy", "-o", tmp_path / "run", *arguments)[0] == 0
    run = ts.open_run(tmp_path / "run")
    assert run.parts == {"0": range(20), "middle": range(20, 40), "2": range(40, 60)}
    assert counts_of(run["0_states"]) == expected_counts(ARRAY)
    np.testing.assert_array_equal(
        run["0_states"].counts([20, 59]).sum(), sum(expected_counts(ARRAY[[20, 59]]).values())
    )


def test_the_part_of_a_rank_goes_on_where_it_stopped(here, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    part = ("--part", "rank", "--first-instance", 100)
    arguments = ("capture", NET, STREAM_NAME, "-o", tmp_path / "run", "--attach-to", "0", *part)
    assert here(*arguments, "--limit", 14).returncode == 0
    assert here(*arguments, "--resume").returncode == 0
    run = ts.open_run(tmp_path / "run")
    assert run.parts == {"3": range(100, 160)}
    assert counts_of(run["0_states"]) == expected_counts(ARRAY)


def test_a_run_that_somebody_else_resumes_meanwhile(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert here("capture", NET, ARRAY_NAME, "-o", "run", "--attach-to", "0", "--limit", 7)[0] == 0
    data = "tests.cli.test_capture:resumes_itself"
    ended = here("capture", NET, data, "-o", "run", "--attach-to", "0", "--resume")
    assert ended.returncode == 1
    assert "run was written by another process meanwhile" in ended.stderr
    assert counts_of(ts.open_run("run")["0_states"]) == expected_counts(ARRAY[:14])


def resumes_itself(start=0):
    other = ts.build_efficiency_model(net().eval(), "0", storage_path="run", mode="resume")
    with torch.inference_mode():
        other(torch.from_numpy(ARRAY[start : start + 7]))
    ts.remove_state_layers(other)
    yield ARRAY[start : start + 7]


@pytest.mark.parametrize(
    ("model", "data", "options", "code", "says"),
    [
        (
            "model.keras",
            "data.npy",
            (),
            1,
            "shape (1, 8, 8), but the model takes (8, 8, 1)",
        ),
        ("text.keras", "data.npy", (), 1, "text.keras cannot be read as a Keras model: File not"),
        ("nothing.keras", "data.npy", (), 1, "there is no model at"),
        ("weights.pt", "data.npy", (), 1, "weights.pt is no model that can be read: give"),
        ("script.pt", "data.npy", (), 1, "the inside of"),
        ("exported.pt2", "data.npy", (), 1, "give --channel-axis"),
        ("exported.pt2", "last.npy", ("--channel-axis", 1), 1, "the model takes (1, 8, 8)"),
        ("fixed.pt2", "data.npy", ("--channel-axis", 1), 1, "takes batches of 2 instances only"),
        ("training_0.pt2", "data.npy", ("--channel-axis", 1), 1, "in training mode: call eval()"),
        ("training_1.pt2", "data.npy", ("--channel-axis", 1), 1, "in training mode: call eval()"),
        (NET, "last.npy", (), 1, "the model does not take what is in"),
        (NET, "last.npy", ("--input-shape", "1,8,8"), 1, "the model takes (1, 8, 8)"),
        (NET, "nothing.npy", (), 1, "No such file"),
        ("json:loads", "data.npy", (), 1, "json:loads failed: "),
        ("json:nothing", "data.npy", (), 1, "module json has no nothing"),
        ("no_such:thing", "data.npy", (), 1, "module no_such cannot be imported"),
        ("os:getcwd", "data.npy", (), 1, "gives a str, which is neither a Keras model nor"),
        (NET, "empty.npy", (), 1, "there are no instances to capture in"),
        (NET, "number.npy", (), 1, "a single number, not an array of instances"),
        (NET, "tests.cli.test_capture:nothing", (), 1, "there are no instances to capture in"),
        (NET, "tests.cli.test_capture:lists", (), 1, "a batch holds a float where an array"),
        ("exported.pt2", "bytes.npy", ("--channel-axis", 1), 1, "the model does not take what is"),
        (NET, "data.npy", ("--resume", "--overwrite"), 2, "choose one"),
        (NET, "data.npy", ("--shard", "3/3"), 2, "of 3 shards, the last is 2"),
        (NET, "data.npy", ("--shard", "1"), 2, "'1' is not I/N"),
        (NET, STREAM_NAME, ("--shard", "0/2"), 2, "--shard needs data of a known length"),
        (NET, "data.npy", ("--part", "a"), 2, "--part and --first-instance go together"),
        (NET, "data.npy", ("--rescale", "1/0"), 2, "is not a number"),
        (NET, "data.npy", ("--input-shape", "8x8"), 2, "is not a shape"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    here, folder, tmp_path, model, data, options, code, says
):
    model, data = (name if ":" in name else folder / name for name in (model, data))
    output = tmp_path / "run"
    ended = here("capture", model, data, "-o", output, "--attach-to", "Conv2d", *options)
    assert ended.returncode == code
    assert says in ended.stderr
    assert code == 2 or ended.stderr.count("\n") == 1
    assert not output.exists()
    assert ended.stdout == ""


@pytest.mark.parametrize("mode", [(), ("--resume",), ("--overwrite",), ("--shard", "0/2")])
@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("no run", "is not a run of tensorstate"),
        ("newer", "has store format 99, but this tensorstate"),
        ("half", "are damaged"),
    ],
)
def test_an_output_that_is_no_run_is_left_as_it_is(here, folder, tmp_path, mode, broken, says):
    output = tmp_path / "run"
    arguments = ("capture", NET, folder / "data.npy", "-o", output, "--attach-to", "0")
    if broken == "no run":
        output.mkdir()
        (output / "thesis.txt").write_text("years of work")
    else:
        assert here(*arguments, "-q").returncode == 0
        about = output / "zarr.json"
        text = about.read_text()
        about.write_text(
            re.sub(r'"format": 1\b', '"format": 99', text) if broken == "newer" else text[:99]
        )
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    ended = here(*arguments, *mode)
    is_read = mode == ("--resume",)  # else it is refused, whatever is wrong with it
    assert ended.returncode == (3 if broken == "half" and is_read else 1), ended.stderr
    assert (ended.stderr.count("\n"), ended.stdout) == (1, "")
    assert says in ended.stderr
    found = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert {path: found.get(path) for path in before} == before
    assert all(path.name.startswith(".lock") for path in found.keys() - before.keys())


def test_a_layer_that_is_not_there(here, folder, tmp_path):
    output = tmp_path / "run"
    ended = here("capture", NET, folder / "data.npy", "-o", output, "--attach-to", "conv2d")
    assert ended.returncode == 1
    assert "did you mean 'Conv2d'?" in ended.stderr
    assert not output.exists()


def test_a_framework_that_is_not_installed(here, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    arguments = ("-o", tmp_path / "run", "--attach-to", "Conv2D")
    ended = here("capture", folder / "model.keras", folder / "last.npy", *arguments)
    assert ended.returncode == 1
    assert ended.stderr.endswith(": install tensorstate[tensorflow]\n")


def test_an_error_on_the_way_keeps_what_was_captured(here, tmp_path):
    failing = "tests.cli.test_capture:fails_later"
    ended = here("capture", NET, failing, "-o", tmp_path / "run", "--attach-to", "0")
    assert ended.returncode == 1
    assert "stopped after 14 instances, which are committed; go on with\n  tens" in ended.stderr
    assert ended.stderr.endswith("tensorstate: the disk is gone\n")
    assert counts_of(ts.open_run(tmp_path / "run")["0_states"]) == expected_counts(ARRAY[:14])


def test_a_model_that_fails_on_the_way(here, tmp_path):
    arguments = ("-o", tmp_path / "run", "--attach-to", "0")
    ended = here("capture", NET, "tests.cli.test_capture:changes_shape", *arguments)
    assert ended.returncode == 1
    assert "tensorstate: the model failed: Given groups=1" in ended.stderr
    assert ts.open_run(tmp_path / "run").instances == 7


def test_a_scripted_module_of_a_function(here, folder, tmp_path):
    arguments = ("-o", tmp_path / "run", "--attach-to", "Conv2d")
    ended = here("capture", "tests.cli.test_capture:scripted", folder / "data.npy", *arguments)
    assert ended.returncode == 1
    assert "a scripted module runs outside of Python" in ended.stderr
    assert not (tmp_path / "run").exists()


def nothing():
    yield from ()


def lists():
    yield [[1.0, 2.0], [3.0, 4.0]]


def scripted():
    return torch.jit.script(net())


def changes_shape():
    yield ARRAY[:7]
    yield ARRAY[7:14].repeat(2, axis=1)


def fails_later():
    yield ARRAY[:7]
    yield ARRAY[7:14]
    raise OSError("the disk is gone")
