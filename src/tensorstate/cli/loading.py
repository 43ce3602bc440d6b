"""Objects that are named ``module:name``, as models and data may be."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

__all__ = ["check_no_pipe", "first_line", "is_object_name", "load_object"]

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_object_name(text: str) -> bool:
    """Whether a text may name an object of a module.

    Examples
    --------
    >>> is_object_name("package.models:lenet5"), is_object_name("s3://bucket/run.zarr")
    (True, False)
    """
    return bool(_NAME.fullmatch(text))


def check_no_pipe(path: Path) -> None:
    """Raise ValueError for what is there and neither a file nor a folder: it may never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} is neither a file nor a folder: give one of these")


def load_object(name: str) -> Any:
    """Import what ``module:name`` says, also from the current folder.

    Raises
    ------
    ValueError
        If the module cannot be imported, or has nothing of that name.

    Examples
    --------
    >>> load_object("math:sqrt")(9.0)
    3.0
    """
    module_name, _, path = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = import_module(module_name)
    except Exception as error:
        raise ValueError(f"{name}: module {module_name} cannot be imported: {error}") from error
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise ValueError(f"{name}: module {module_name} has no {path}")
        found = getattr(found, attribute)
    return found


def first_line(error: Exception) -> str:
    r"""Return what an error says in one line, where frameworks write many.

    Examples
    --------
    >>> first_line(RuntimeError("no\n\nstack"))
    'no'
    """
    lines = [click.unstyle(line).strip() for line in str(error).splitlines()]
    # Keras begins with where it happened, and says after that what did.
    says = (line for line in lines if line and not line.startswith("Exception encountered when"))
    return next(says, type(error).__name__)
