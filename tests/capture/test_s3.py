"""A Keras model that records into a run on S3."""

import numpy as np
import pytest

import tensorstate as ts
from tensorstate.storage import open_run
from tests.capture import models
from tests.s3 import BUCKET, s3_server


@pytest.fixture
def url(monkeypatch):
    with s3_server() as server:
        server.set_environment(monkeypatch)
        yield f"s3://{BUCKET}/keras.zarr"


def test_it_is_captured_and_resumed(url):
    model, inputs = models.functional(), models.images(40)
    in_memory = ts.build_efficiency_model(model, ["Conv2D"])
    in_memory.predict(inputs, verbose=0)
    for start in (0, 20):
        probed = ts.build_efficiency_model(
            model, ["Conv2D"], storage_path=url, mode="resume" if start else "x"
        )
        probed.predict(inputs[start : start + 20], verbose=0)
        for layer in probed.efficiency_layers:
            layer.close()
    run = open_run(url)
    assert run.instances == 40
    for layer in in_memory.efficiency_layers:
        np.testing.assert_array_equal(run[layer.name].raw_states, layer.raw_states)
