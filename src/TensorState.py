"""The tutorial's import name: ``import TensorState as ts`` gives the names of `tensorstate`."""

from typing import Any

import tensorstate
from tensorstate import __version__ as __version__


def __getattr__(name: str) -> Any:
    return getattr(tensorstate, name)


def __dir__() -> list[str]:
    return dir(tensorstate)
