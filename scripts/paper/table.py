"""The table of a run: a row for each hidden layer of each network."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["COLUMNS", "IDENTITY", "load_table", "make_table", "networks_of", "save_table"]

IDENTITY = ["architecture", "widths", "batch_norm", "dropout", "random_labels", "seed"]
"""The columns that tell one network from all others."""

COLUMNS = {
    "architecture": ("str", "Name of the network's architecture."),
    "widths": ("str", "Neurons of each hidden layer, from input to output."),
    "batch_norm": ("bool", "Whether hidden layers are followed by batch normalisation."),
    "dropout": ("bool", "Whether hidden layers are followed by dropout."),
    "random_labels": ("int64", "Percent of the digits for training with a label drawn at random."),
    "seed": ("int64", "Of weights, order, dropout and random labels."),
    "train_digits": ("int64", "How many digits were trained with."),
    "test_digits": ("int64", "How many digits were tested with, and captured."),
    "wrong_labels": ("float64", "Share of the digits for training whose label is not the true."),
    "parameters": ("int64", "Of the network, trainable."),
    "epochs": ("int64", "How many the training took."),
    "train_accuracy": ("float64", "On the digits and labels that were trained with."),
    "test_accuracy": ("float64", "On the test digits and their true labels."),
    "memorised": (
        "float64",
        "Share of the digits with a wrong label to which the network gives that label; missing "
        "where there is none.",
    ),
    "network_efficiency": ("float64", "Geometric mean of the layers' efficiencies."),
    "network_efficiency_corrected": ("float64", "The same of the corrected efficiencies."),
    "aIQ": ("float64", "Of test accuracy and network efficiency, with weight 2."),
    "aIQ_corrected": ("float64", "The same with the corrected network efficiency."),
    "layer": ("str", "Name of the hidden layer."),
    "layer_number": ("int64", "Its place from input to output, from 1."),
    "neurons": ("int64", "Its width."),
    "states": ("int64", "How many states were captured: test digits times positions."),
    "distinct": ("int64", "How many of them differ."),
    "coverage": ("float64", "Estimated chance that the next state is a known one."),
    "ceiling": ("float64", "The most that efficiency can be with so many states, at most 1."),
    "flag": ("str", "How the sample limits the entropy; empty if it does not."),
    "efficiency": ("float64", "Plug-in entropy of the states over the number of neurons."),
    "efficiency_corrected": (
        "float64",
        "The same with the estimate of Chao, Wang and Jost, cut off at 1.",
    ),
}
"""Type and meaning of each column; shares are 0 to 1."""


def make_table(rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> pd.DataFrame:
    """Make a table of rows; what it is of stands in its ``attrs``."""
    types = {name: dtype for name, (dtype, _) in COLUMNS.items()}
    table = pd.DataFrame(list(rows), columns=list(types)).astype(types)
    table.attrs.update(about)
    return table


def save_table(table: pd.DataFrame, file: Path) -> None:
    """Write a table as Parquet, whole or not at all.

    Raises
    ------
    ImportError
        If pyarrow is missing.
    """
    _check_pyarrow()
    unfinished = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        table.to_parquet(unfinished, engine="pyarrow", index=False, compression="zstd")
        os.replace(unfinished, file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def load_table(file: Path) -> pd.DataFrame:
    """Read a table that `save_table` wrote.

    Raises
    ------
    ImportError
        If pyarrow is missing.
    FileNotFoundError
        If there is none.
    ValueError
        If it is no such table.
    """
    _check_pyarrow()
    if not file.exists():
        raise FileNotFoundError(
            f"there is no table {file}: make it first, with python -m scripts.paper run"
        )
    try:
        table = pd.read_parquet(file, engine="pyarrow")
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is no Parquet file: {error}") from error
    missing = [name for name in COLUMNS if name not in table]
    if missing or table.empty:
        lacks = f"the columns {', '.join(missing)}" if missing else "rows"
        raise ValueError(f"{file} is no table of these experiments: it lacks {lacks}")
    return table


def networks_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each network, without what is of its layers."""
    of_network = list(COLUMNS)[: list(COLUMNS).index("layer")]
    return table[of_network].drop_duplicates(IDENTITY).reset_index(drop=True)


def _check_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(
            "the table is a Parquet file, which needs pyarrow: pip install tensorstate[bench]"
        ) from error
