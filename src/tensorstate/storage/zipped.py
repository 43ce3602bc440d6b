"""Runs that were packed into a zip file, which are read where they are."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from os import PathLike
from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ZipStore

from tensorstate.contained import MOST_BYTES

__all__ = ["ZippedRun", "is_zip"]

_UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
"""What `zipfile` raises for an entry that is damaged, or packed in a way that it does not know."""


class ZippedRun(ZipStore):
    """A zip file as a Zarr store that cannot be written.

    Zip files cannot replace what is in them, and a run replaces its metadata with every commit.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, mode="r")

    def _sync_open(self) -> None:
        try:
            super()._sync_open()
        except zipfile.BadZipFile as error:
            raise ValueError(f"{self.path} is not a run of tensorstate ({error})") from None

    def _get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        try:
            if not self._is_open:
                self._sync_open()
            size = self._zf.getinfo(key).file_size if key in self._zf.NameToInfo else 0
            if size > MOST_BYTES:
                raise ValueError(
                    f"{key} in {self.path} unpacks to {size} bytes, and nothing in a store has "
                    f"more than {MOST_BYTES}: it is damaged"
                )
            return super()._get(key, prototype, byte_range)
        except _UNREADABLE as error:
            raise ValueError(f"{key} in the zip file is damaged ({error})") from error


def is_zip(path: str | PathLike[str]) -> bool:
    """Whether a path names a zip file: a folder of such a name is a folder."""
    return Path(path).suffix.lower() == ".zip" and not Path(path).is_dir()
