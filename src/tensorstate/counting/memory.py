"""How much memory a count may use, and where it may spill: arguments, configuration, defaults.

Two keys of Dask's configuration are read, each only where `count_states` was not told:

- ``tensorstate.memory-limit``: bytes or text such as "2 GiB"; by default half of what is
  available, control groups included;
- ``tensorstate.spill``: a directory or an fsspec URL; by default Dask's ``temporary-directory``,
  or else the directory that the system has for temporary files.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from pathlib import Path
from typing import TypeAlias

import dask
import psutil
from dask.utils import format_bytes, parse_bytes

from tensorstate.configuration import option

__all__ = [
    "LOADED_SHARE",
    "MemoryLimit",
    "available_memory",
    "fits",
    "give_back",
    "parse_limit",
    "spill_location",
]

MemoryLimit: TypeAlias = "int | float | str | None"

LOADED_SHARE = 4
"""What takes less than this part of the limit is loaded, for as long as somebody has it."""

ALWAYS_FREE = 64 << 20
"""So many bytes are taken without asking the system, which takes as long as a small merge."""

CGROUPS = (
    # version 2, then version 1: limit, usage, statistics
    ("memory.max", "memory.current", "memory.stat"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
    ),
)


def parse_limit(memory_limit: MemoryLimit) -> int | None:
    """Return a limit in bytes, from the argument or else from Dask's configuration.

    Parameters
    ----------
    memory_limit : int, float, str or None
        Bytes, or text with a unit; None: what ``tensorstate.memory-limit`` says.

    Returns
    -------
    int or None
        Bytes; None if nobody set a limit.

    Raises
    ------
    ValueError
        If it is not a number of bytes above zero.

    Examples
    --------
    >>> parse_limit("2 GiB"), parse_limit(1e9)
    (2147483648, 1000000000)
    """
    limit = memory_limit
    name = "memory_limit"
    if limit is None:
        limit = option("memory-limit")
        name = "tensorstate.memory-limit in Dask's configuration"
    if limit is None:
        return None
    try:
        size = parse_bytes(limit) if isinstance(limit, str) else int(limit)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f'{name} is {limit!r}, not a number of bytes: give one, or text such as "2 GiB"'
        ) from error
    if size <= 0:
        raise ValueError(f'{name} is {limit!r}: give a number of bytes above zero, or "2 GiB"')
    return size


def available_memory(root: str = "/sys/fs/cgroup") -> int:
    """Return how many bytes this process could still take, by the system and its cgroups.

    Parameters
    ----------
    root : str
        Where control groups are mounted.

    Returns
    -------
    int
        At least 0.
    """
    available = int(psutil.virtual_memory().available)
    for names in CGROUPS:
        try:
            limit, usage, statistics = (Path(root, name).read_text() for name in names)
        except OSError:
            continue
        if limit.strip() != "max":
            # Files in the page cache are given up when memory is asked for.
            used = int(usage) - _inactive_files(statistics)
            available = min(available, int(limit) - max(used, 0))
    return max(available, 0)


def fits(size: int, memory_limit: MemoryLimit) -> bool:
    """Whether this process may take so many bytes: within the limit that was set, or by default.

    Parameters
    ----------
    size : int
        Bytes.
    memory_limit : int, float, str or None
        As for `parse_limit`; if nobody set a limit, it is half of what is available.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If the limit is not a number of bytes above zero.

    Examples
    --------
    >>> fits(1000, 999), fits(1000, "1 kB"), fits(1000, None)
    (False, True, True)
    """
    limit = parse_limit(memory_limit)
    if limit is not None:
        return size <= limit
    return size <= ALWAYS_FREE or size <= available_memory() // 2


def _inactive_files(statistics: str) -> int:
    found = dict(line.split()[:2] for line in statistics.splitlines() if " " in line)
    return int(found.get("total_inactive_file", found.get("inactive_file", 0)))


def give_back() -> None:
    """Return memory that was freed to the system, where the allocator keeps it (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def spill_location(spill: str | os.PathLike[str] | None) -> str:
    """Return the directory or URL below which a count may write.

    Parameters
    ----------
    spill : str, path or None
        The argument of `count_states`; None: what the configuration says.

    Returns
    -------
    str
    """
    for choice in (
        spill,
        option("spill"),
        dask.config.get("temporary-directory", None),
    ):
        if choice is not None:
            return os.fspath(choice)
    return tempfile.gettempdir()


def as_text(size: float) -> str:
    """Return a number of bytes for people: ``as_text(3 << 20) == "3.00 MiB"``."""
    return str(format_bytes(int(size)))
