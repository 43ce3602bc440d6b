"""All networks of a run, as Dask tasks of which each leaves a file."""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from scripts.paper.experiment import Settings, measure
from scripts.paper.networks import Architecture, Experiment

__all__ = ["ENVIRONMENT", "check_settings", "grid", "rows_of", "run_grid"]

ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
}
"""Of each worker: one thread, with which TensorFlow gives the same numbers each time."""

Measure = Callable[[Experiment, Settings], list[dict[str, Any]]]


def grid(
    architectures: Mapping[str, Architecture], seeds: int, random_labels: Sequence[int]
) -> list[Experiment]:
    """List the networks to be trained, seed by seed, so that what is stopped has whole seeds.

    As they are, and with true labels, networks of all combinations of widths are trained. The
    networks of the ladder are so too, and with batch normalisation, with dropout, and with random
    labels.

    Parameters
    ----------
    architectures : mapping of str to Architecture
        By name.
    seeds : int
        Each network is trained with the seeds from 0 to one less.
    random_labels : sequence of int
        Percents of random labels; 0 is always there.

    Returns
    -------
    list of Experiment

    Examples
    --------
    >>> from scripts.paper.networks import ARCHITECTURES
    >>> small = {"lenet_5": ARCHITECTURES["lenet_5"].with_widths([2, 4])}
    >>> experiments = grid(small, seeds=1, random_labels=[0, 75])
    >>> len(experiments), experiments[-1].name
    (14, 'lenet_5_4-4-4_plain_random75_seed0')
    """
    found: dict[Experiment, None] = {}
    for seed in range(seeds):
        for name, architecture in architectures.items():
            ladder = architecture.ladder
            for widths in [*product(*architecture.product), *ladder]:
                found[Experiment(name, widths, seed=seed)] = None
            for widths in ladder:
                found[Experiment(name, widths, batch_norm=True, seed=seed)] = None
                found[Experiment(name, widths, dropout=True, seed=seed)] = None
            for widths, percent in product(ladder, random_labels):
                found[Experiment(name, widths, random_labels=percent, seed=seed)] = None
    return list(found)


def run_grid(
    experiments: Sequence[Experiment],
    settings: Settings,
    folder: Path,
    client: Any,
    *,
    advance: Callable[[int, int], None] = lambda done, total: None,
    measured_by: Measure = measure,
) -> None:
    """Measure what is not measured yet, each network in a task that writes its own file.

    Parameters
    ----------
    experiments : sequence of Experiment
        Which networks.
    settings : Settings
        How they are trained.
    folder : Path
        Of the run; all workers have to reach it under the same name.
    client : distributed.Client
        Where the tasks run.
    advance : callable, optional
        Called with how many networks are there and how many there will be, after each.
    measured_by : callable, optional
        Makes the rows of a network.

    Raises
    ------
    RuntimeError
        If a network fails; what the others left stays, and the run can go on.
    """
    from distributed import as_completed

    missing = [each for each in experiments if not _file_of(folder, each).exists()]
    done = len(experiments) - len(missing)
    advance(done, len(experiments))
    where = str(folder.resolve())  # workers may have started elsewhere
    # What comes first in the list is worth more if the run is stopped.
    names = {
        client.submit(
            _leave_rows, each, settings, where, measured_by, pure=False, priority=-number
        ): each
        for number, each in enumerate(missing)
    }
    try:
        for future in as_completed(list(names)):
            error = future.exception()
            if error is not None:
                raise RuntimeError(
                    f"network {names[future].name} failed ({type(error).__name__}: {error}); the "
                    f"other networks stay in {folder}, and the same command goes on with them"
                ) from error
            done += 1
            advance(done, len(experiments))
    finally:
        client.cancel(list(names))
    _remove_unfinished(folder)


def rows_of(experiments: Iterable[Experiment], folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all networks, in order.

    Raises
    ------
    FileNotFoundError
        If a network has none.
    ValueError
        If a file holds something else.
    """
    rows: list[dict[str, Any]] = []
    for each in experiments:
        file = _file_of(folder, each)
        try:
            rows += json.loads(file.read_text())
        except FileNotFoundError:
            raise FileNotFoundError(
                f"there is no {file}: network {each.name} was not measured yet; run it first"
            ) from None
        except ValueError as error:
            raise ValueError(
                f"{file} holds no rows ({error}): remove it, and run the network again"
            ) from None
    return rows


def check_settings(folder: Path, settings: Settings) -> None:
    """Note the settings of a run when it begins; refuse to go on with others.

    Raises
    ------
    ValueError
        If the folder has networks that were trained in another way.
    """
    file = folder / "settings.json"
    ours = dataclasses.asdict(settings)
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(file, ours)
        return
    theirs = json.loads(file.read_text())
    differ = [name for name in ours if theirs.get(name) != ours[name]]
    if differ:
        told = ", ".join(f"{name} {theirs.get(name)} (now {ours[name]})" for name in differ)
        raise ValueError(
            f"the networks in {folder} were trained with {told}: give the same settings, or "
            "another folder"
        )


def _leave_rows(
    experiment: Experiment, settings: Settings, folder: str, measured_by: Measure
) -> None:
    """Do one task; done twice, it does no harm."""
    file = _file_of(Path(folder), experiment)
    if not file.exists():
        _write(file, measured_by(experiment, settings))


def _file_of(folder: Path, experiment: Experiment) -> Path:
    return folder / "rows" / f"{experiment.name}.json"


def _remove_unfinished(folder: Path) -> None:
    """Remove the hidden files of workers that were killed while writing: nobody writes now."""
    for unfinished in (folder / "rows").glob(".*"):
        unfinished.unlink(missing_ok=True)


def _write(file: Path, content: Any) -> None:
    """Write a file that is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False))
        os.replace(unfinished, file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
