"""What capturing costs on a GPU: ResNet-50 with random weights, all 53 convolutions captured.

    python -m benchmarks.capture_gpu [--frameworks torch keras-torch keras-jax] [--images 1024]

Each framework is measured in a process of its own. The first table is the wall time of running all
images through the network, plain and captured (until everything is committed), interleaved, and
what crossed to the host instead of activations. In Keras that is `predict`, which also moves images
to the GPU and predictions back. The second is how fast activations are packed on the GPU, beside a
copy of them there. Without a GPU that a framework can use, it says so and ends with exit code 0.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks._measure import in_own_process, interleaved, machine, markdown, versions
from benchmarks._networks import Subject, in_keras, in_torch
from benchmarks.capture import measured

ENVIRONMENTS = {
    "torch": {},
    "keras-torch": {"KERAS_BACKEND": "torch"},
    "keras-jax": {"KERAS_BACKEND": "jax"},
}
CAPTURED = ("captured to disk", "captured in memory")
PACKED_SHAPE = (128, 256, 56, 56)  # of the first blocks of ResNet-50


def gpu_of(framework: str) -> str | None:
    """Return the name of the GPU that a framework uses, if it can use any."""
    if framework == "keras-jax":
        import jax

        device = jax.devices()[0]
        return str(device.device_kind) if device.platform == "gpu" else None
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def network(subject: Subject, repeats: int) -> dict[str, Any]:
    """Measure a network plain and captured: medians of seconds, and bytes."""
    found = measured(subject, repeats)
    seconds = {way: median(found.timings[way].wall) for way in ("plain", *CAPTURED)}
    return {
        "seconds": seconds,
        "layers": found.layers,
        "activation_bytes": 4 * found.activations,
        "packed_bytes": found.packed_bytes,
    }


def packing(ways: dict[str, Callable[[], Any]], size: int, repeats: int) -> dict[str, float]:
    """Return bytes of activations a second of packing and of copying them."""
    timings = interleaved(ways, repeats)
    return {way: size / median(timings[way].wall) for way in ways}


def torch_ways(device: str, shape: tuple[int, ...]) -> tuple[dict[str, Callable[[], Any]], int]:
    """Return what packs and what copies activations on a device, and the bytes of these."""
    import torch

    from tensorstate.capture.torch_packing import pack_on_device

    x = torch.randn(shape, device=device)
    other = torch.empty_like(x)

    def finished(run: Callable[[], Any]) -> None:
        run()
        if x.is_cuda:
            torch.cuda.synchronize()

    ways: dict[str, Callable[[], Any]] = {
        "pack": partial(finished, lambda: pack_on_device(x)),
        "copy": partial(finished, lambda: other.copy_(x)),
    }
    return ways, x.nbytes


def jax_ways(shape: tuple[int, ...]) -> tuple[dict[str, Callable[[], Any]], int]:
    """Return what packs and what copies activations where JAX runs, and the bytes of these."""
    import jax

    from tensorstate.capture.jax_packing import pack_on_device

    x = jax.random.normal(jax.random.key(0), shape)
    pack, copy = jax.jit(pack_on_device), jax.jit(jax.numpy.copy)
    ways = {
        "pack": lambda: jax.block_until_ready(pack(x)),
        "copy": lambda: jax.block_until_ready(copy(x)),
    }
    return ways, x.nbytes


def cell(framework: str, images: int, batch: int, repeats: int) -> dict[str, Any]:
    """Measure one framework, if it has a GPU."""
    gpu = gpu_of(framework)
    if gpu is None:
        return {"gpu": None}
    if framework == "torch":
        subject = in_torch("resnet50", images, batch, "cuda")
    else:
        subject = in_keras("resnet50", images, batch)
    on_jax = framework == "keras-jax"
    ways, size = jax_ways(PACKED_SHAPE) if on_jax else torch_ways("cuda", PACKED_SHAPE)
    return {
        "gpu": gpu,
        "versions": versions(subject.packages),
        "network": network(subject, repeats),
        "packing": packing(ways, size, 4 * repeats),
    }


def show(found: dict[str, dict[str, Any]]) -> None:
    """Print the tables."""
    networks, speeds = [], []
    for framework, one in found.items():
        figures, speed = one["network"], one["packing"]
        seconds = figures["seconds"]
        overheads = (f"{seconds[way] / seconds['plain']:.2f}" for way in CAPTURED)
        sizes = (f"{figures[name] / 1e9:.2f}" for name in ("activation_bytes", "packed_bytes"))
        plain = f"{seconds['plain']:.2f}"
        networks.append([framework, figures["layers"], plain, *overheads, *sizes])
        rates = (f"{speed[way] / 1e9:.0f}" for way in ("pack", "copy"))
        speeds.append([framework, *rates, f"{speed['pack'] / speed['copy']:.0%}"])
    header = ["framework", "layers", "plain, s", *(f"{way}, ratio" for way in CAPTURED)]
    print(markdown([*header, "activations, GB", "moved, GB"], networks))
    print()
    print(markdown(["framework", "packed, GB/s", "copied, GB/s", "share"], speeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frameworks", nargs="+", choices=ENVIRONMENTS, default=[*ENVIRONMENTS])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        framework, *numbers = options.cell
        print(json.dumps(cell(framework, *map(int, numbers))))
        return

    sizes = (options.images, options.batch, options.repeats)
    cells = {
        name: in_own_process("benchmarks.capture_gpu", name, *sizes, environment=ENVIRONMENTS[name])
        for name in options.frameworks
    }
    found = {name: one for name, one in cells.items() if one["gpu"]}
    without = [name for name in cells if name not in found]
    if without:
        print(f"There is no GPU here that can be used by {', '.join(without)}: not measured.")
    if found:
        show(found)
        gpus = {one["gpu"] for one in found.values()}
        print(
            f"\n{options.images} images in batches of {options.batch}, medians of "
            f"{options.repeats}; {', '.join(sorted(gpus))}, {machine()}, "
            f"{', '.join(one['versions'] for one in found.values())}"
        )


if __name__ == "__main__":
    main()
