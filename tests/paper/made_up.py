"""Tables of experiments whose numbers follow from formulas, so that what they say is known."""

import dataclasses
import math

from scripts.paper.grid import grid
from scripts.paper.networks import ARCHITECTURES
from scripts.paper.table import make_table
from tensorstate.metrics import aIQ, network_efficiency


def falling(experiment, width):
    """An efficiency that falls by 5 points with each doubling, and a bit by seed."""
    return 0.9 - 0.05 * math.log2(width) + 0.001 * experiment.seed


def with_size(experiment):
    """An accuracy that rises slightly with the number of neurons."""
    return 0.9 + 0.001 * math.log2(sum(experiment.widths)) - 0.0001 * experiment.seed


def made_up(
    efficiency=falling,
    *,
    corrected=None,
    accuracy=with_size,
    memorised=lambda experiment: 0.5,
    parameters=lambda experiment: math.prod(experiment.widths) ** 2,
    flag=lambda width: "",
    seeds=3,
    random_labels=(0, 75),
):
    """Return the table that the grid of both architectures would have."""
    rows = []
    for each in grid(ARCHITECTURES, seeds, random_labels):
        layers = []
        for number, width in enumerate(each.widths, 1):
            found = efficiency(each, width)
            layers.append(
                {
                    "layer": ARCHITECTURES[each.architecture].layers[number - 1],
                    "layer_number": number,
                    "neurons": width,
                    "states": 1000,
                    "distinct": 500,
                    "coverage": 0.5,
                    "ceiling": min(1.0, math.log2(1000) / width),
                    "flag": flag(width),
                    "efficiency": found,
                    "efficiency_corrected": corrected(each, width) if corrected else found,
                }
            )
        network = {
            **dataclasses.asdict(each),
            "widths": each.network,
            "train_digits": 4000,
            "test_digits": 1000,
            "wrong_labels": 0.009 * each.random_labels,
            "parameters": parameters(each),
            "epochs": 1,
            "train_accuracy": 1.0,
            "test_accuracy": accuracy(each),
            "memorised": memorised(each) if each.random_labels else None,
        }
        for suffix in ("", "_corrected"):
            share = network_efficiency([layer[f"efficiency{suffix}"] for layer in layers])
            network[f"network_efficiency{suffix}"] = share
            network[f"aIQ{suffix}"] = aIQ(share, network["test_accuracy"], 2)
        rows += [{**network, **layer} for layer in layers]
    return make_table(rows, {"machine": "a machine", "versions": "versions", "settings": {}})
