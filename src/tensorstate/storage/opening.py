"""Opening a run to write to it: alone, or one part beside other writers."""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import zarr
from zarr.abc.store import Store
from zarr.core.sync import sync

from tensorstate.nodes import read_array, update_attributes
from tensorstate.storage import format as store_format
from tensorstate.storage.counted import ATTRIBUTE as COUNTED
from tensorstate.storage.digests import no_digests
from tensorstate.storage.format import committed_instances
from tensorstate.storage.leftovers import remove_from_run
from tensorstate.storage.locks import WriterLock, lock_writer
from tensorstate.storage.stores import (
    StoreLike,
    cannot_write,
    describe_store,
    is_zipped,
    local_folder,
    remove_layer,
    store_holds_something,
)
from tensorstate.storage.survey import RunSurvey, survey

__all__ = ["MODES", "OpenedRun", "WriterPart", "open_to_write", "writer_part"]

MODES = ("x", "w", "resume")

_PART_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class WriterPart:
    """The part of a run that is left to one of several writers.

    Attributes
    ----------
    name : str
        Name of the part, which no other writer has.
    first_instance : int
        Number, in the whole run, of the first instance that this writer records.
    """

    name: str
    first_instance: int


@dataclass(frozen=True)
class Room:
    """How many instances a part may have before it meets another one, and what is wrong then."""

    instances: int
    error: str


@dataclass(frozen=True)
class OpenedRun:
    """A run that was opened to write to it.

    Attributes
    ----------
    group : zarr.Group
        The run's group.
    committed : int
        Instances that this writer has committed before, and goes on after.
    stored_layers : set of str
        The layers that have these instances.
    lock : WriterLock
        Keeps others out; to be released at the end.
    room : Room or None
        Where this writer has to end; None if other parts leave it all the room.
    """

    group: zarr.Group
    committed: int
    stored_layers: set[str] = field(default_factory=set)
    lock: WriterLock = field(default_factory=WriterLock)
    room: Room | None = None


def writer_part(part: str | int | None, first_instance: int | None) -> WriterPart | None:
    """Return the part that options name; None for a writer that writes the run alone.

    Parameters
    ----------
    part : str or int, optional
        Name of the part; "rank" stands for the number in the environment variable RANK, which
        ``torchrun`` sets for each of its processes.
    first_instance : int, optional
        Number of its first instance in the whole run; goes with a part, and with none else.

    Raises
    ------
    TypeError
        If the part is neither text nor a whole number, or the number is none.
    ValueError
        If one is given without the other, or makes no sense.

    Examples
    --------
    >>> writer_part(3, 1500)
    WriterPart(name='3', first_instance=1500)
    """
    if part is None:
        if first_instance is not None:
            raise ValueError(
                f"first_instance={first_instance} is that of one part of several: name the part "
                "as well, or leave it out for a run with one writer"
            )
        return None
    name = _part_name(part)
    if first_instance is None:
        raise ValueError(
            f"part {name!r} lacks first_instance: give the number that its first instance has "
            "among the instances of all parts"
        )
    if isinstance(first_instance, bool) or not hasattr(first_instance, "__index__"):
        raise TypeError(f"first_instance is a whole number, not {first_instance!r}")
    if first_instance < 0:
        raise ValueError(f"first_instance is 0 or more, not {first_instance}")
    return WriterPart(name, int(first_instance))


def _part_name(part: str | int) -> str:
    if isinstance(part, bool) or not (isinstance(part, str) or hasattr(part, "__index__")):
        raise TypeError(f"a part is named by text or a whole number, not by {part!r}")
    name = part if isinstance(part, str) else str(int(part))
    if name == "rank":
        name = os.environ.get("RANK", "")
        if not name.isdecimal():
            raise ValueError(
                "part='rank' is the number in the environment variable RANK, but that is "
                f"{name!r}: start the program with torchrun, or name the part"
            )
    if not _PART_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name a part: names are letters, digits, '-', '_' and '.', and begin "
            "with a letter or a digit"
        )
    return name


def open_to_write(store: StoreLike, mode: str, model: str, part: WriterPart | None) -> OpenedRun:
    """Open or create a run to write to it, and lock it where it is on a disk.

    Parameters
    ----------
    store : path, URL or Zarr store
        Where the run is, or is to be.
    mode : {"x", "w", "resume"}
        What to do with what is there: with the run, or with the part if one is given.
    model : str
        Name of the network, for the attributes of a new run.
    part : WriterPart or None
        The part to write beside other writers; None to write the run alone.

    Raises
    ------
    FileExistsError
        If the run or the part is there already (mode "x"), another process is writing it, or
        something is there that is no run.
    ValueError
        If the run cannot go on with that, or is damaged.
    PermissionError
        If it is a zip file.
    OSError
        If nothing can be written there.
    """
    if is_zipped(store):
        raise PermissionError(
            f"{describe_store(store)} is a zip file, which can be read but not written: choose a "
            "folder or URL as the storage path, and pack the run when it is complete"
        )
    folder = local_folder(store)
    if folder is not None and not isinstance(store, Store):
        store = folder  # also of a file URL, so that it is written as any folder is
    # Nothing is made, not even a lock, in a folder that is no run's.
    if store_holds_something(store):
        found = _open_existing(store)
        if mode == "x" and part is None:
            raise _run_exists(found, store)
    lock = _lock(store, part)
    try:
        if part is None:
            return _open_alone(store, mode, model, lock)
        return _open_part(store, mode, model, part, lock)
    except BaseException:
        lock.release()
        raise


def _lock(store: StoreLike, part: WriterPart | None) -> WriterLock:
    folder = local_folder(store)
    if folder is None:
        return WriterLock()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock_writer(folder, part.name if part else None)
    except OSError as error:
        if error.errno is None:  # it is held, and the text says by whom
            raise
        raise cannot_write(store, error) from error


def _open_existing(store: StoreLike) -> zarr.Group:
    try:
        return store_format.open_format(store, "r+")
    except ValueError as error:
        raise FileExistsError(
            f"{error}; nothing was overwritten, choose another storage path"
        ) from None


def _open_alone(store: StoreLike, mode: str, model: str, lock: WriterLock) -> OpenedRun:
    if not store_holds_something(store):
        return OpenedRun(store_format.create_run(store, model), 0, lock=lock)
    group = _open_existing(store)
    if mode == "x":
        raise _run_exists(group, store)
    if mode == "w":
        # If what follows is cut short, nobody takes what is left for the run.
        update_attributes(group, {"instances": 0})
        return OpenedRun(store_format.create_run(store, model, overwrite=True), 0, lock=lock)
    found = survey(group, describe_store(store))
    if found.shared:
        raise ValueError(
            f"run {found.where} has the parts {', '.join(map(repr, found.committed))} of several "
            "writers: say which part is to go on, or what a new part is named"
        )
    folder = local_folder(store)
    if folder is not None:
        remove_from_run(folder, list(found.layers))
    committed = committed_instances(group)
    if not committed:
        _drop_layers(found, group, folder)
    return OpenedRun(group, committed, set(found.layers) if committed else set(), lock)


def _drop_layers(found: RunSurvey, group: zarr.Group, folder: Path | None) -> None:
    """Remove the layers of a run that has committed nothing: it may get others."""
    for name in (*found.layers, *found.bare):
        if folder is None:
            sync((group.store_path / name).delete_dir())
        elif not (folder / name).is_symlink():
            remove_layer(folder / name)


def _open_part(
    store: StoreLike, mode: str, model: str, part: WriterPart, lock: WriterLock
) -> OpenedRun:
    if store_holds_something(store):
        group = _open_existing(store)
    else:
        group = store_format.join_run(store, model)
    found = survey(group, describe_store(store))
    mine = found.committed.get(part.name)
    if mine is not None and mode == "x":
        raise FileExistsError(
            f"run {found.where} has a part {part.name!r} with {len(mine)} committed instances: "
            "name another part, or choose mode='w' to overwrite this part, or mode='resume' to "
            "go on with it"
        )
    if mine is not None and mode == "resume" and len(mine) and mine.start != part.first_instance:
        raise ValueError(
            f"run {found.where}, part {part.name!r} begins with instance {mine.start}, but is to "
            f"go on as if it began with {part.first_instance}: give the same first_instance"
        )
    committed = len(mine) if mine is not None and mode == "resume" else 0
    room = _room(found, part, committed)
    if not committed:
        _drop_part(found, part.name)
        return OpenedRun(group, 0, lock=lock, room=room)
    layers = {name for name, layer in found.layers.items() if part.name in layer.parts}
    return OpenedRun(group, committed, layers, lock, room)


def _room(found: RunSurvey, part: WriterPart, committed: int) -> Room | None:
    """Return how far a part may go on before it meets the next one; None without an end."""
    start = part.first_instance + committed
    ahead = [
        (max(other.start, start), name)
        for name, other in found.committed.items()
        if name != part.name and len(other) and other.stop > start
    ]
    if not ahead:
        return None
    number, name = min(ahead)
    other = found.committed[name]
    return Room(
        number - part.first_instance,
        f"run {found.where}, part {part.name!r} was to go on with instance {number}, but part "
        f"{name!r} has the instances {other.start} to {other.stop - 1}: give every part instances "
        "of its own",
    )


def _drop_part(found: RunSurvey, part: str) -> None:
    """Remove a part from all layers."""
    paths = [layer.group.store_path / f"part-{part}" for layer in found.layers.values()]
    for path in paths:
        array = read_array(path / "states")
        if array is not None:
            # If that is cut short, nobody takes what is left for rows.
            nothing = {"rows": 0, "offsets": 0, "instances": 0, COUNTED: None}
            digests = {"digests": no_digests(), "offsets_digests": no_digests()}
            update_attributes(array, {**nothing, **digests, "uuid": str(uuid.uuid4())})
    for path in paths:
        sync(path.delete_dir())


def _run_exists(group: zarr.Group, store: StoreLike) -> FileExistsError:
    where = describe_store(store)
    try:
        holds = f"{survey(group, where).instances} committed instances"
    except ValueError as error:
        holds = f"damage ({error})"
    return FileExistsError(
        f"{where} already holds a run with {holds}: choose another storage path, or mode='w' to "
        "overwrite it, or mode='resume' to go on"
    )
