"""A folder as a Zarr store that is not left: what a link in it names elsewhere is not read.

A run or a histogram may come from someone else. Zarr's own store follows every link, waits for
what is no file (a pipe), and reads files of any size.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, StorePath

__all__ = ["MOST_BYTES", "ContainedStore", "check_contained", "contained"]

MOST_BYTES = 256 << 20
"""No value is larger in a run or a histogram: neither a chunk nor metadata."""


class ContainedStore(LocalStore):
    """A local store which neither reads nor writes outside of its folder.

    The folder itself may be a link, and so may be what is in it to other places in it.
    """

    def _check(self, key: str) -> None:
        check_contained(self.root, self.root / key)

    def _check_value(self, key: str) -> None:
        path = self.root / key
        check_contained(self.root, path)
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise ValueError(f"{path} is no file: nothing else is read from a store")
        if found.st_size > MOST_BYTES:
            raise ValueError(
                f"{path} has {found.st_size} bytes, and nothing in a store has more than "
                f"{MOST_BYTES}: it is damaged"
            )

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return a value; None if there is none."""
        self._check_value(key)
        return await super().get(key, prototype, byte_range)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return a value; None if there is none."""
        self._check_value(key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return pieces of values."""
        ranges = list(key_ranges)
        for key, _ in ranges:
            self._check_value(key)
        return await super().get_partial_values(prototype, ranges)

    async def set(self, key: str, value: Buffer) -> None:
        """Store a value."""
        self._check(os.path.dirname(key))
        await super().set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Store a value."""
        self._check(os.path.dirname(key))
        super().set_sync(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store a value if there is none."""
        self._check(os.path.dirname(key))
        await super().set_if_not_exists(key, value)

    async def delete(self, key: str) -> None:
        """Remove a value."""
        self._check(os.path.dirname(key))
        await super().delete(key)

    def delete_sync(self, key: str) -> None:
        """Remove a value."""
        self._check(os.path.dirname(key))
        super().delete_sync(key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all values below a prefix."""
        self._check(prefix)
        await super().delete_dir(prefix)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names right below a prefix."""
        self._check(prefix)
        async for name in super().list_dir(prefix):
            yield name


def check_contained(root: Path | str, path: Path | str) -> None:
    """Raise ValueError if a path leads out of a folder, by a link or by its name."""
    found = os.path.realpath(path)
    # Where the folder is the beginning of a path without links, there is none in it either.
    if found.startswith(os.path.join(root, "")):
        return
    base = os.path.realpath(root)
    if found != base and not found.startswith(base.rstrip(os.sep) + os.sep):
        raise ValueError(
            f"{path} leads out of {root}, to {found}: links out of a store are not followed, "
            "so copy what it is to hold into it"
        )


def contained(path: StorePath) -> StorePath:
    """Return the same place; in a local store, in one that is not left."""
    # A subclass may have ways of its own.
    if type(path.store) is not LocalStore:
        return path
    store = ContainedStore(path.store.root, read_only=path.store.read_only)
    return StorePath(store, path.path)
