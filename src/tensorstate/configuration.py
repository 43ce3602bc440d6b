"""The package's part of Dask's configuration; ``tensorstate.yaml`` lists and explains all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import yaml

__all__ = ["option"]


def option(name: str) -> Any:
    """Return what is configured: set by the user, or else the default.

    Parameters
    ----------
    name : str
        One of those in ``tensorstate.yaml``.

    Raises
    ------
    KeyError
        If there is no such option.

    Examples
    --------
    >>> option("workers-timeout")
    '5 minutes'
    """
    return dask.config.get(f"tensorstate.{name}")


def _set_defaults() -> None:
    defaults = yaml.safe_load(Path(__file__).with_name("tensorstate.yaml").read_text())
    # Before the user's own files and variables, which dask.config read when it was imported.
    dask.config.update_defaults(defaults)


_set_defaults()
