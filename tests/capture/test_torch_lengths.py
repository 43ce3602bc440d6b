"""Instances of different lengths in PyTorch: packed sequences, and batches of different shapes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import tensorstate as ts
from tensorstate.capture.torch_packing import packed_order
from tensorstate.storage import open_run
from tests.strategies import reproducible

VARIABLE = {"variable_positions": True}


def padded(lengths, features=6, seed=0):
    return torch.randn(
        len(lengths), max(lengths), features, generator=torch.Generator().manual_seed(seed)
    )


def rows_of(packed):
    """The states of each sequence of a packed one, in the order before it was packed."""
    values, lengths = pad_packed_sequence(packed, batch_first=True)
    fires = (values.detach() > 0).numpy()
    return [
        np.packbits(x[:length], axis=-1, bitorder="little").reshape(-1, -(-x.shape[-1] // 8))
        for x, length in zip(fires, lengths.tolist(), strict=True)
    ]


def check(capture, rows):
    assert (capture.positions, capture.instance_count) == (None, len(rows))
    np.testing.assert_array_equal(capture.raw_states[:], np.concatenate(rows))
    for number, own in enumerate(rows):
        assert capture.histogram([number]).total == len(own)


@reproducible
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.booleans(), st.booleans())
def test_sequences_in_the_order_before_they_were_packed(lengths, is_sorted, batch_first):
    lengths = sorted(lengths, reverse=True) if is_sorted else lengths
    x = padded(lengths)
    packed = pack_padded_sequence(
        x if batch_first else x.movedim(0, 1), lengths, batch_first, enforce_sorted=is_sorted
    )
    found, rows = packed_order(packed)
    assert found.tolist() == lengths
    expected = torch.cat([x[i, :length] for i, length in enumerate(lengths)])
    assert torch.equal(packed.data[rows], expected)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_modules_with_packed_sequences(kind, batch_first, tmp_path):
    torch.manual_seed(0)
    rnn = kind(6, 11, num_layers=2, batch_first=batch_first, bidirectional=True)
    inputs, outputs = [], []
    model = ts.build_efficiency_model(
        nn.Sequential(rnn), kind.__name__, (), "both", tmp_path / "run", **VARIABLE
    )
    for lengths in ([3, 7, 1, 7], [2, 5]):
        x = padded(lengths)
        packed = pack_padded_sequence(
            x if batch_first else x.movedim(0, 1), lengths, batch_first, enforce_sorted=False
        )
        inputs += rows_of(packed)
        outputs += rows_of(model(packed)[0])
    before, after = model.efficiency_layers
    check(before, inputs)
    check(after, outputs)
    ts.remove_state_layers(model)
    run = open_run(tmp_path / "run")
    assert run.instances == 6
    check(run["0_pre_states"], inputs)
    check(run["0_states"], outputs)


def test_a_hook_on_packed_and_plain_batches():
    lstm = nn.LSTM(6, 11, batch_first=True)
    packed = pack_sequence([padded([n])[0] for n in (2, 4, 3)], enforce_sorted=False)
    with ts.StateCaptureHook("probe", channel_axis=-1, **VARIABLE).attach(lstm) as capture:
        rows = rows_of(lstm(packed)[0])
        plain = lstm(padded([5, 5]))[0]
    rows += [np.packbits(x.detach() > 0, axis=-1, bitorder="little") for x in plain]
    check(capture, rows)


@pytest.mark.parametrize("channel_axis", [2, -1])
def test_packed_sequences_of_images(channel_axis):
    identity = nn.Identity()
    frames = [torch.randn(n, 3, 4, generator=torch.Generator().manual_seed(n)) for n in (2, 1, 4)]
    with ts.StateCaptureHook("probe", channel_axis=channel_axis, **VARIABLE).attach(
        identity
    ) as probe:
        identity(pack_sequence(frames, enforce_sorted=False))
    last = [x.movedim(channel_axis - 1 if channel_axis > 0 else -1, -1) for x in frames]
    rows = [np.packbits(x.reshape(-1, x.shape[-1]) > 0, axis=-1, bitorder="little") for x in last]
    check(probe, rows)


def test_a_fully_convolutional_network_on_images_of_two_sizes():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 9, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    conv = net[0]
    batches = [torch.randn(3, 1, 8, 6), torch.randn(2, 1, 5, 9)]
    ts.build_efficiency_model(net, "Conv2d", **VARIABLE)
    rows = []
    for batch in batches:
        net(batch)
    (capture,) = net.efficiency_layers
    ts.remove_state_layers(net)
    for batch in batches:
        fires = (conv(batch) > 0).movedim(1, -1).flatten(1, 2).numpy()
        rows += [*np.packbits(fires, axis=-1, bitorder="little")]
    check(capture, rows)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"channel_axis": -1}, "is a PackedSequence, whose instances differ .*variable_positions"),
        (VARIABLE, "has its steps and not its neurons on axis 1: .*channel_axis=-1"),
        ({**VARIABLE, "channel_axis": 3}, "neurons on axis 3, but got an array of shape"),
    ],
)
def test_packed_sequences_that_cannot_be_recorded(options, says):
    lstm = nn.LSTM(6, 11)
    packed = pack_sequence([padded([n])[0] for n in (2, 4)], enforce_sorted=False)
    with (
        ts.StateCaptureHook("probe", **options).attach(lstm),
        pytest.raises(ValueError, match=says),
    ):
        lstm(packed)


def test_a_symbolic_pass_of_packed_sequences_is_not_recorded():
    lstm = nn.LSTM(6, 11, device="meta")
    packed = pack_sequence([padded([n])[0] for n in (4, 2)]).to("meta")
    with ts.StateCaptureHook("probe", channel_axis=-1, **VARIABLE).attach(lstm) as capture:
        lstm(packed)
    assert capture.instance_count == 0
