"""What a writer that was killed has left beside what it committed, on a disk, and its removal.

Every file is written under another name, which ends with ``.partial``, and renamed when it is
complete; chunks are written ahead of the commit that tells of them. Nobody reads what is left of
either, but it takes room, and a run that has it is not equal to one that was never killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from tensorstate.contained import check_contained
from tensorstate.storage.chunks import LocalChunks

__all__ = ["remove_from_part", "remove_from_run"]

_UNFINISHED = ".partial"


def remove_from_part(states: LocalChunks, rows: int) -> None:
    """Remove what was left in a part, which nobody else writes.

    Chunks are looked at from the end of the committed rows on: those before are whole, and may be
    millions.

    Parameters
    ----------
    states : LocalChunks
        The states of the part.
    rows : int
        How many of them are committed.
    """
    check_contained(states.root, states.folder)
    part = os.path.dirname(states.folder)
    offsets = os.path.join(part, "offsets")
    for folder in (part, states.folder, offsets, os.path.join(offsets, "c")):
        _remove_unfinished(folder)
    for array in _folders(os.path.join(part, "digests")):
        for level in _folders(array):
            _remove_unfinished(level)
    length = states.shape[0]
    whole, committed = rows // length, -(-rows // length)
    for number, folder in _chunk_folders(states, whole):
        if number < committed:
            _remove_unfinished(folder)
        else:
            shutil.rmtree(folder)


def remove_from_run(folder: str | os.PathLike[str], layers: list[str]) -> None:
    """Remove what was left of the metadata of a run and its layers, and of dropped layers.

    Parameters
    ----------
    folder : path
        Of a run that nobody else writes.
    layers : list of str
        Its layers.
    """
    _remove_unfinished(folder)
    for dropped in _folders(folder):
        if os.path.basename(dropped).startswith(".removed-"):
            shutil.rmtree(dropped)
    for name in layers:
        _remove_unfinished(os.path.join(folder, name))
        _remove_unfinished(os.path.join(folder, name, "histogram"))


def _chunk_folders(states: LocalChunks, first: int) -> Iterator[tuple[int, str]]:
    """Yield the folder of each chunk from the first on: they were made one after the other."""
    number = first
    while True:
        folder = os.path.dirname(os.path.join(states.folder, states.key(number)))
        if os.path.basename(folder) != str(number) or not _is_folder(folder):
            return
        yield number, folder
        number += 1


def _remove_unfinished(folder: str | os.PathLike[str]) -> None:
    if not _is_folder(folder):
        return
    for name in os.listdir(folder):
        if name.endswith(_UNFINISHED):
            with contextlib.suppress(IsADirectoryError, PermissionError):
                os.unlink(os.path.join(folder, name))


def _folders(folder: str | os.PathLike[str]) -> list[str]:
    if not _is_folder(folder):
        return []
    paths = (os.path.join(folder, name) for name in os.listdir(folder))
    return [path for path in paths if _is_folder(path)]


def _is_folder(path: str | os.PathLike[str]) -> bool:
    # A link may lead to what is not ours.
    return os.path.isdir(path) and not os.path.islink(path)
