"""Runs behind a URL: on S3, and wherever else fsspec reaches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import urlsplit

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore

from tensorstate.urls import clear_errors, hide_credentials

__all__ = ["RemoteStore", "open_url"]

S3 = ("s3", "s3a")


class RemoteStore(FsspecStore):
    """A Zarr store behind a URL, which says in its errors which one it is and what to do."""

    @property
    def where(self) -> str:
        """The URL, without credentials."""
        return hide_credentials(str(self.fs.unstrip_protocol(self.path)))

    def __str__(self) -> str:
        return self.where

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return a value; None if there is none."""
        with clear_errors(self.where):
            return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return pieces of values."""
        with clear_errors(self.where):
            return await super().get_partial_values(prototype, key_ranges)

    async def exists(self, key: str) -> bool:
        """Whether there is a value."""
        with clear_errors(self.where):
            return await super().exists(key)

    async def getsize(self, key: str) -> int:
        """Return the bytes of a value."""
        with clear_errors(self.where):
            return await super().getsize(key)

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        """Store a value."""
        with clear_errors(self.where):
            await super().set(key, value, byte_range)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store a value if there is none, in one step where the store can do that, as S3 does."""
        self._check_writable()
        root = self.path.rstrip("/")
        path = f"{root}/{key}" if root else key
        try:
            with clear_errors(self.where):
                await self.fs._pipe_file(path, value.to_bytes(), mode="create")
        except FileExistsError:
            return
        except (TypeError, ValueError, NotImplementedError):
            # It cannot: there, two who are at it at the same time both store theirs.
            await super().set_if_not_exists(key, value)
        except OSError:
            # A conflict, where somebody else was first, has no name of its own everywhere.
            if not await self.exists(key):
                raise

    async def delete(self, key: str) -> None:
        """Remove a value."""
        with clear_errors(self.where):
            await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all values below a prefix."""
        with clear_errors(self.where):
            await super().delete_dir(prefix)

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        with clear_errors(self.where):
            async for key in super().list():
                yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys below a prefix."""
        with clear_errors(self.where):
            async for key in super().list_prefix(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names right below a prefix."""
        with clear_errors(self.where):
            async for name in super().list_dir(prefix):
                yield name


def open_url(url: str, *, read_only: bool = False) -> RemoteStore:
    """Return the store that a URL names; nothing is asked of it yet.

    Parameters
    ----------
    url : str
        Any that fsspec knows, such as ``s3://bucket/run.zarr`` or ``memory://run.zarr``.
    read_only : bool
        Whether writing to it is to be refused.

    Raises
    ------
    ImportError
        If the package for such URLs is not installed.
    ValueError
        If there is none.
    """
    where = hide_credentials(url)
    # Other processes write runs too: a list of what was there a moment ago is not to be used.
    options: dict[str, Any] = {"use_listings_cache": False}
    if urlsplit(url).scheme in S3:
        # Else s3fs asks for the size of everything before it reads it, to read what is large in
        # several pieces at once. A chunk is small, and several chunks are read at once.
        options["max_concurrency"] = 1
    try:
        store = RemoteStore.from_url(url, storage_options=options, read_only=read_only)
    except ImportError as error:
        raise ImportError(
            f"{where} needs a package that is not installed ({error}); for s3:// URLs, "
            "pip install 'tensorstate[s3]'"
        ) from error
    except ValueError as error:
        raise ValueError(f"{where} is no URL of a store ({hide_credentials(str(error))})") from None
    assert isinstance(store, RemoteStore)
    return store
