"""Where runs are stored: paths, URLs and Zarr stores."""

from __future__ import annotations

import os
import shutil
import uuid
from os import PathLike
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, StorePath, ZipStore

from tensorstate.contained import ContainedStore, contained
from tensorstate.storage.locks import is_lock_name
from tensorstate.storage.remote import open_url
from tensorstate.storage.zipped import ZippedRun, is_zip
from tensorstate.urls import hide_credentials

__all__ = [
    "StoreLike",
    "as_store",
    "cannot_write",
    "clear_run",
    "remove_layer",
    "describe_store",
    "is_url",
    "is_writable",
    "is_zipped",
    "list_names",
    "local_folder",
    "store_holds_something",
    "store_identity",
    "to_write",
]

StoreLike = str | PathLike[str] | Store


def describe_store(store: StoreLike) -> str:
    """Name a store in a message, without credentials."""
    if isinstance(store, Store):
        return hide_credentials(str(store).removeprefix("file://"))
    return hide_credentials(str(store))


def list_names(path: StorePath) -> list[str]:
    """Return the names of what lies in a group, without a look at what it is."""

    async def names() -> list[str]:
        return [name async for name in path.store.list_dir(path.path)]

    return sorted(sync(names()))


def to_write(path: StorePath) -> StorePath:
    """Return the same place in a store that was opened for reading, to write there."""
    if not path.store.read_only:
        return path
    return StorePath(path.store.with_read_only(False), path.path)


def store_holds_something(store: StoreLike) -> bool:
    """Whether anything, a run or not, is stored there already."""
    folder = store.root if isinstance(store, LocalStore) else local_folder(store)
    if folder is None:
        return not sync(as_store(store, read_only=True).is_empty(""))
    # In one step: another process may be about to make the folder.
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return folder.exists()
    return any(map(_is_content, names))


def store_identity(store: StoreLike) -> str:
    """Return what tells two stores apart within this process."""
    if isinstance(store, Store):
        return str(store)
    if is_url(store):
        return str(store)
    return f"file://{Path(store).absolute().as_posix()}"


def is_url(store: StoreLike) -> bool:
    """Whether a store is named by a URL, as ``s3://bucket/run.zarr``."""
    return isinstance(store, str) and "://" in store


def local_folder(store: StoreLike) -> Path | None:
    """Return the folder in which a store may be written; None if it is another kind of store.

    Examples
    --------
    >>> local_folder("file:///data/run").as_posix(), local_folder("s3://bucket/run")
    ('/data/run', None)
    """
    if isinstance(store, LocalStore):
        return None if store.read_only else store.root
    if isinstance(store, Store):
        return None
    if is_url(store):
        url = urlsplit(str(store))
        return Path(unquote(url.path)) if url.scheme == "file" else None
    return Path(store)


def is_zipped(store: StoreLike) -> bool:
    """Whether a store is a zip file, which is read and not written."""
    if isinstance(store, Store):
        return isinstance(store, ZipStore)
    return not is_url(store) and is_zip(store)


def is_writable(store: StoreLike) -> bool:
    """Whether it was left to us to write to a store: it was not handed over as read-only."""
    return not (is_zipped(store) or (isinstance(store, Store) and store.read_only))


def as_store(store: StoreLike, *, read_only: bool = False) -> Store:
    """Return the Zarr store that a path or URL names; a zip file is always read-only.

    A folder, also in a `LocalStore`, is one whose links do not lead out of it.
    """
    if isinstance(store, Store):
        if isinstance(store, FsspecStore):
            # Other processes write runs too: what was there a moment ago is not to be believed.
            store.fs.invalidate_cache()
        return contained(StorePath(store)).store
    if is_zipped(store):
        path = Path(store)
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no file: nothing else is read as a zip file")
        return ZippedRun(path)
    folder = local_folder(store)
    if folder is None:
        return open_url(str(store), read_only=read_only)
    return ContainedStore(folder, read_only=read_only)


def clear_run(folder: Path) -> None:
    """Remove a run from a folder, except the locks of those who write there.

    Whenever that is cut short, what is left is a run with some layers less, or nothing.
    """
    metadata = folder / "zarr.json"
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            remove_layer(path)
        elif path != metadata and not is_lock_name(path.name):
            path.unlink()
    metadata.unlink()


def remove_layer(path: Path) -> None:
    """Remove the folder of a layer as a whole: under the name that it gets, nobody sees it."""
    gone = path.rename(path.with_name(f".removed-{uuid.uuid4().hex}"))
    shutil.rmtree(gone)


def cannot_write(store: StoreLike, error: OSError) -> OSError:
    """Return the same type of error, with the store and what to do in its text."""
    if error.errno is None:  # a remote store has said both
        return error
    reason = error.strerror or str(error)
    return OSError(
        error.errno or 0,
        f"cannot write a run there ({reason}): choose a storage path that can be written",
        describe_store(store),
    )


def _is_content(name: str) -> bool:
    """Whether a file is more than a lock, or the metadata that somebody is about to store."""
    return not (is_lock_name(name) or name.endswith(".partial"))
