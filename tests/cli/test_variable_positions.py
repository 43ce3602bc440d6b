"""`tensorstate capture --variable-positions`: what is padding is left out, as by hand."""

import json

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import tensorstate as ts

LENGTHS = np.array([7, 1, 4, 7, 2, 5, 3, 6, 7, 1])
STEPS = np.random.default_rng(0).integers(-4, 5, (10, 7, 3)).astype(np.float32)
SENTENCES = np.where(np.arange(7) < LENGTHS[:, None], 1 + np.arange(70).reshape(10, 7) % 5, 0)


class Recurrent(nn.Module):
    """Takes padded sequences and their lengths, as many a module does."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(3, 9, batch_first=True)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.lstm(packed)[0].data


def sequences(start=0):
    for first in range(start, 10, 4):
        yield STEPS[first : first + 4], LENGTHS[first : first + 4]


def sizes():
    """Images of two sizes."""
    rng = np.random.default_rng(0)
    for size in (8, 5):
        yield rng.normal(size=(3, 1, size, size)).astype(np.float32)


def packed(fires):
    return np.packbits(fires, axis=-1, bitorder="little")


def check(path, rows):
    run = ts.open_run(path)
    (layer,) = run.values()
    assert (run.instances, layer.positions) == (len(rows), None)
    np.testing.assert_array_equal(layer.raw_states[:], np.concatenate(rows))
    for number, own in enumerate(rows):
        assert layer.histogram([number]).total == len(own)


@pytest.fixture
def sentences(tmp_path):
    """A model with an embedding that makes a mask, and the states of its words alone."""
    keras.utils.set_random_seed(0)
    words = keras.layers.Input((None,), dtype="int32")
    embedding = keras.layers.Embedding(6, 8, mask_zero=True)(words)
    rnn = keras.layers.SimpleRNN(12, return_sequences=True, name="rnn")(embedding)
    model = keras.Model(words, keras.layers.Dense(2)(rnn))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "sentences.npy", SENTENCES.astype(np.int32))
    activations = keras.Model(words, rnn).predict(SENTENCES, verbose=0)
    return [packed(x[:n] > 0) for x, n in zip(activations, LENGTHS, strict=True)]


def test_the_mask_of_a_keras_model(here, tmp_path, sentences):
    arguments = ("capture", tmp_path / "model.keras", tmp_path / "sentences.npy")
    options = ("-o", tmp_path / "run", "--attach-to", "rnn", "--variable-positions")
    assert here(*arguments, *options, "--batch-size", 3, "--limit", 4).returncode == 0
    ended = here(*arguments, *options, "--batch-size", 4, "--resume", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["layers"][0]["positions"] is None
    check(tmp_path / "run", sentences)


def test_without_it_padding_is_recorded(here, tmp_path, sentences):
    arguments = ("capture", tmp_path / "model.keras", tmp_path / "sentences.npy")
    assert here(*arguments, "-o", tmp_path / "run", "--attach-to", "rnn").returncode == 0
    assert ts.open_run(tmp_path / "run")["rnn_states"].state_count == 70


def test_packed_sequences_of_a_pytorch_module(here, tmp_path):
    names = (f"tests.cli.test_variable_positions:{name}" for name in ("Recurrent", "sequences"))
    arguments = ("capture", *names, "-o", tmp_path / "run", "--attach-to", "LSTM")
    refused = here(*arguments, "--channel-axis", -1)
    assert refused.returncode == 1
    assert "is a PackedSequence, whose instances differ in length" in refused.stderr
    options = ("--channel-axis", -1, "--variable-positions", "--overwrite")
    ended = here(*arguments, *options)
    assert ended.returncode == 0, ended.stderr
    rows = []
    with torch.inference_mode():
        for x, length in zip(torch.from_numpy(STEPS), LENGTHS, strict=True):
            rows.append(packed(Recurrent().lstm(x[None, :length])[0][0].numpy() > 0))
    check(tmp_path / "run", rows)


def test_images_of_different_sizes(here, tmp_path):
    data = "tests.cli.test_variable_positions:sizes"
    arguments = ("capture", "tests.cli.programs:convolution", data, "--attach-to", "Conv2d")
    refused = here(*arguments, "-o", tmp_path / "same")
    assert refused.returncode == 1
    assert "--variable-positions" in refused.stderr
    ended = here(*arguments, "-o", tmp_path / "run", "--variable-positions")
    assert ended.returncode == 0, ended.stderr
    from tests.cli.programs import convolution

    rows = []
    with torch.inference_mode():
        for images in sizes():
            fires = convolution()(torch.from_numpy(images)).movedim(1, -1).numpy() > 0
            rows += [packed(x).reshape(-1, 1) for x in fires]
    check(tmp_path / "run", rows)
