"""One network: trained, captured, and measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.paper.data import Digits, load, randomised
from scripts.paper.networks import ARCHITECTURES, Experiment, build_model
from tensorstate.metrics import aIQ, network_efficiency, sample_support

__all__ = ["CORRECTED", "WEIGHT", "Settings", "measure"]

CORRECTED = "chao_wang_jost"
"""The estimator of corrected efficiencies.

It assumes nothing of the distribution or of the number of neurons, and has a value also where each
state was seen once, as happens in wide layers; Chao and Shen's has none there. Grassberger's and
the first corrections are made for samples that are nearly enough, which these are not.
"""

WEIGHT = 2.0
"""Of accuracy in the aIQ, as in the tutorial of the paper's authors."""

_BATCH = 250


@dataclass(frozen=True)
class Settings:
    """What is the same for all networks of a run.

    Attributes
    ----------
    data : str
        As for `scripts.paper.data.load`.
    digits : int or None
        How many of them; None for all.
    epochs : int
        Passes over the digits, at most.
    patience : int
        Training ends when the loss on the training digits has not fallen for so many epochs.
    batch_size : int
        Digits of a step.
    learning_rate : float
        Of Adam.
    """

    data: str = "digits"
    digits: int | None = None
    epochs: int = 12
    patience: int = 3
    batch_size: int = 50
    learning_rate: float = 0.002


def measure(experiment: Experiment, settings: Settings) -> list[dict[str, Any]]:
    """Train a network, capture its states on the test digits, and say what they show.

    Equal arguments give equal rows on one machine where TensorFlow has one thread.

    Parameters
    ----------
    experiment : Experiment
        Which network.
    settings : Settings
        How it is trained.

    Returns
    -------
    list of dict
        A row for each hidden layer; the columns are described in `scripts.paper.table.COLUMNS`.
    """
    import keras

    train, test = load(settings.data, settings.digits)
    labels, is_wrong = randomised(train.labels, experiment.random_labels, experiment.seed)
    keras.utils.set_random_seed(experiment.seed)
    try:
        model = build_model(experiment)
        epochs = _train(model, Digits(train.images, labels), settings)
        answers = _answers(model, train.images)
        network = {
            **dataclasses.asdict(experiment),
            "widths": experiment.network,
            "train_digits": len(labels),
            "test_digits": len(test.labels),
            "wrong_labels": float(is_wrong.mean()),
            "parameters": sum(int(np.prod(each.shape)) for each in model.trainable_weights),
            "epochs": epochs,
            "train_accuracy": float(np.mean(answers == labels)),
            "memorised": float(np.mean((answers == labels)[is_wrong])) if is_wrong.any() else None,
        }
        return _captured(model, experiment, test, network)
    finally:
        keras.backend.clear_session()  # a worker trains hundreds


def _train(model: Any, digits: Digits, settings: Settings) -> int:
    """Train until the loss stops falling; return how many epochs it took."""
    import keras

    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # To compile such small networks takes longer than to train them.
        jit_compile=False,
    )
    stop_early = keras.callbacks.EarlyStopping(
        monitor="loss", mode="min", patience=settings.patience
    )
    history = model.fit(
        *digits,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        callbacks=[stop_early],
        verbose=0,
    )
    return len(history.epoch)


def _answers(model: Any, images: NDArray[np.float32]) -> NDArray[np.int64]:
    # Called as it is: to compile a model for one pass takes longer.
    batches = np.split(images, range(_BATCH, len(images), _BATCH))
    logits = [np.asarray(model(batch, training=False)) for batch in batches]
    answers: NDArray[np.int64] = np.argmax(np.concatenate(logits), axis=1)
    return answers


def _captured(
    model: Any, experiment: Experiment, test: Digits, network: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the rows, from the states of the test digits."""
    import tensorstate as ts

    names = ARCHITECTURES[experiment.architecture].layers
    efficiency_model = ts.build_efficiency_model(model, attach_to=names)
    accuracy = float(np.mean(_answers(efficiency_model, test.images) == test.labels))
    layers = [
        _layer(number, name, captured)
        for number, (name, captured) in enumerate(
            zip(names, efficiency_model.efficiency_layers, strict=True), 1
        )
    ]
    ts.remove_state_layers(efficiency_model)
    network["test_accuracy"] = accuracy
    for suffix in ("", "_corrected"):
        share = network_efficiency([layer[f"efficiency{suffix}"] for layer in layers])
        network[f"network_efficiency{suffix}"] = share
        network[f"aIQ{suffix}"] = aIQ(share, accuracy, WEIGHT)
    return [{**network, **layer} for layer in layers]


def _layer(number: int, name: str, captured: Any) -> dict[str, Any]:
    times_seen, number_of_states = captured.spectrum()
    support = sample_support(times_seen, number_of_states, captured.neurons)
    # An estimate that allows for unseen states may be more than there can be.
    corrected = min(captured.efficiency(estimator=CORRECTED), 1.0)
    return {
        "layer": name,
        "layer_number": number,
        "neurons": captured.neurons,
        "states": support.rows,
        "distinct": support.distinct,
        "coverage": support.coverage,
        "ceiling": support.ceiling,
        "flag": support.flag,
        "efficiency": captured.efficiency(),
        "efficiency_corrected": max(corrected, 0.0),
    }
