"""Every way to capture counts live as well, and finds what stored states would show."""

import keras
import numpy as np
import pytest

import tensorstate as ts
from tests.capture.models import images, sequential


def raw_chunks(path):
    return list(path.glob("*/part-*/states/c/*"))


def check(path, layers, x, expected):
    """Compare layers, and the run that they left, with what was stored of the same passes."""
    for layer, stored in zip(layers, expected, strict=True):
        assert layer.histogram() == stored.histogram()
        assert (layer.instance_count, layer.state_count) == (len(x), stored.state_count)
        assert layer.efficiency() == stored.efficiency()
        with pytest.raises(ValueError, match="histogram='live', which keeps no raw states"):
            layer.counts([0])
    assert not raw_chunks(path)
    run = ts.open_run(path)
    assert ts.network_efficiency(run) == ts.network_efficiency(expected)
    assert [layer.histogram() for layer in run.values()] == [s.histogram() for s in expected]


def test_keras_models(tmp_path):
    model, x = sequential(), images(70)
    layers = {}
    for histogram in ("live", "stored"):
        probed = ts.build_efficiency_model(
            model,
            ["Conv2D", "Dense"],
            storage_path=tmp_path / histogram,
            queue_bytes=30_000,
            histogram=histogram,
        )
        probed.predict(x, batch_size=16, verbose=0)
        layers[histogram] = probed.efficiency_layers
        ts.remove_state_layers(probed)
    check(tmp_path / "live", layers["live"], x, layers["stored"])
    assert raw_chunks(tmp_path / "stored")


def test_captures_placed_by_hand(tmp_path):
    x = images(50)
    probes = []
    for histogram in ("live", "stored"):
        inputs = keras.Input(x.shape[1:])
        probes.append(ts.StateCapture("probe", tmp_path / histogram, histogram=histogram))
        keras.Model(inputs, probes[-1](inputs)).predict(x, verbose=0)
        probes[-1].close()
    check(tmp_path / "live", probes[:1], x, probes[1:])
    # What the layer is made from says it, so that a copy of the model does the same.
    copy = ts.StateCapture.from_config({**probes[0].get_config(), "name": "copy"})
    copy(keras.ops.convert_to_tensor(x))
    with pytest.raises(ValueError, match="layer 'copy' was captured with histogram='live'"):
        copy.raw_states  # noqa: B018


def test_torch_modules_and_hooks(tmp_path):
    torch = pytest.importorskip("torch")
    x = torch.randn(60, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 9, 3), torch.nn.ReLU())
    layers = {}
    for histogram in ("live", "stored"):
        path = tmp_path / histogram
        net = ts.build_efficiency_model(net, "Conv2d", storage_path=path, histogram=histogram)
        hook = ts.StateCaptureHook("relu", tmp_path / f"{histogram} hook", histogram=histogram)
        with torch.inference_mode(), hook.attach(net[1]):
            for batch in x.split(16):
                net(batch)
        layers[histogram] = (net.efficiency_layers, [hook])
        ts.remove_state_layers(net)
    for path, live, stored in zip(("live", "live hook"), *layers.values(), strict=True):
        check(tmp_path / path, live, x, stored)


def test_a_model_that_forgets_what_it_counted(tmp_path):
    model, x = sequential(), images(40)
    probed = ts.build_efficiency_model(
        model, "Conv2D", storage_path=tmp_path / "run", histogram="live"
    )
    probed.predict(x, verbose=0)
    ts.reset_efficiency_model(probed)
    probed.predict(x[:10], verbose=0)
    (layer,) = probed.efficiency_layers
    assert layer.counts().sum() == 10 * layer.positions
    ts.remove_state_layers(probed)
    activations = keras.ops.convert_to_numpy(model.layers[0](x[:10]))
    packed = np.packbits(activations > 0, axis=-1, bitorder="little")
    expected = ts.count_states(packed.reshape(-1, packed.shape[-1]))
    assert ts.open_run(tmp_path / "run")["conv_1_states"].histogram() == expected
