"""Chunks of a part on a local disk, read and written without Zarr's event loop.

Zarr hands every chunk from its event loop to a thread and back, and copies it twice on its way:
for chunks that the package writes, that takes longer than to read and decode them, and several
threads that read are no faster than one; and it takes as long as to compress and write them. What
Zarr's metadata says is stored in just the way that `format.create_part` stores it can be read, and
written to the same bytes, by each thread for itself::

    file: blosc header (16 bytes) | compressed blocks | CRC-32C of all that (4 bytes)
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import stat
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import crc32c
import numpy as np
import zarr
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import LocalStore

from tensorstate import file_kernels
from tensorstate.contained import ContainedStore, check_contained
from tensorstate.intrinsics import HAS_XXH3_STREAM
from tensorstate.nodes import (
    BLOSC_HEADER,
    BLOSC_PLAIN,
    MOST_CHUNK_BYTES,
    check_blosc,
    digest_of,
)
from tensorstate.storage.format import CODECS

__all__ = ["LocalChunks"]


_CHECKSUM = struct.Struct("<I")

# A file is larger than the content of its chunk by that at most.
_OVERHEAD = BLOSC_HEADER.size + _CHECKSUM.size


_SAMPLES = 16
_SAMPLE_BYTES = 16 << 10
_WORTH = {b"lz4": 1 / 3, b"zstd": 3 / 4}
"""Chunks of which a sample does not shrink to so much are stored as they are: to compress them
takes longer than to write what it saves, and so it is when they are read. States that shrink by
half are those that LZ4 is slowest with; who wants the smaller files asks for zstd."""

_READ = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0)

_PLAIN_BLOCK = 1 << 20


@dataclass(frozen=True)
class LocalChunks:
    """The chunks of an array on a local disk, each of which is a file.

    Threads may read at the same time: blosc is used without its global state, as Zarr sets it.

    Attributes
    ----------
    root : str
        The folder of the store, which is not left.
    folder : str
        Where the array is.
    metadata : ArrayV3Metadata
        What Zarr knows of it: also how chunks are named.
    shape : (int, int)
        Rows and bytes of a chunk.
    _compressor : tuple
        What blosc is called with, after the content.
    """

    root: str
    folder: str
    metadata: ArrayV3Metadata
    shape: tuple[int, int]
    _compressor: tuple[bytes, int, int, int, int]

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> LocalChunks | None:
        """Return the chunks of an array, or None where only Zarr can read them.

        Parameters
        ----------
        array : zarr.Array
            Any array in any store.
        """
        store, metadata = array.store_path.store, array.metadata
        # Another subclass may read in another way.
        if not isinstance(store, LocalStore) or type(store) not in (LocalStore, ContainedStore):
            return None
        if not isinstance(metadata, ArrayV3Metadata):
            return None
        stored_as = metadata.to_dict()
        shape = _chunk_shape(stored_as)
        if shape is None:
            return None
        folder = os.path.join(store.root, array.store_path.path)
        return cls(str(store.root), folder, metadata, shape, _compressor(stored_as))

    def key(self, number: int) -> str:
        """Return the name of a chunk of rows, within the array."""
        return self.metadata.encode_chunk_key((number, 0))

    def has(self, number: int) -> bool:
        """Whether a chunk is there, as a file."""
        return os.path.isfile(os.path.join(self.folder, self.key(number)))

    def rooms(
        self, kept: dict[Any, Any] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return memory for the rows of a chunk, and for its file, as `read` takes them.

        It is the same for chunks of one shape, as long as `kept` is: fresh memory is slow to get.
        """
        rooms: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None
        rooms = None if kept is None else kept.get(self.shape)
        if rooms is None:
            rooms = np.empty(self.shape, np.uint8), np.empty(self._most_stored, np.uint8)
            if kept is not None:
                kept[self.shape] = rooms
        return rooms

    def read(
        self, number: int, rows: NDArray[np.uint8], stored: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Read a chunk.

        Parameters
        ----------
        number : int
            Which chunk of rows.
        rows : uint8 array of the shape of a chunk, C-contiguous
            Filled with its rows, unless these are stored as they are.
        stored : (n,) uint8
            Overwritten with what its file holds: `rooms` gives one that is long enough.

        Returns
        -------
        uint8 array of the shape of a chunk
            Its rows, also those of the last chunk that nobody wrote: `rows`, or where they came
            to lie in `stored`.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        ValueError, RuntimeError
            If what is there is damaged; the text says in which way.
        """
        content, _ = self._load(number, stored)
        return self._unpacked(content, rows)

    def read_digested(
        self, number: int, rows: NDArray[np.uint8], stored: NDArray[np.uint8], size: int
    ) -> tuple[NDArray[np.uint8], bytes]:
        """Read a chunk whose digest is known: it says more than the checksum of the file.

        Where rows are stored as they are, only the digest is worked out, while they are read.

        Parameters
        ----------
        number, rows, stored
            As for `read`.
        size : int
            Bytes of the rows that have a digest: the first ones.

        Returns
        -------
        rows : uint8 array of the shape of a chunk
            As for `read`.
        digest : bytes
            Of the first `size` bytes, as `tensorstate.nodes.digest_of` gives it.

        Raises
        ------
        FileNotFoundError, ValueError, RuntimeError
            As for `read`.
        """
        content, digest = self._load(number, stored, size)
        found = self._unpacked(content, rows)
        return found, digest or digest_of(found.reshape(-1)[:size])

    def _unpacked(self, content: NDArray[np.uint8], rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        # A checksum can be made to fit: blosc is to write no more than there is room for.
        if check_blosc(content, rows.size):
            return content[BLOSC_HEADER.size :].reshape(rows.shape)
        blosc.decompress(content, rows.reshape(-1))
        return rows

    def write(self, number: int, rows: NDArray[np.uint8]) -> None:
        """Write a chunk, in place of what is there: whoever reads meets the old one or the new.

        It is compressed as Zarr would do it, or not at all where that saves too little.

        Parameters
        ----------
        number : int
            Which chunk of rows.
        rows : uint8 array of the shape of a chunk, C-contiguous
            Its rows.

        Raises
        ------
        OSError
            If it cannot be written; nothing is left of it then.
        """
        content = rows.reshape(-1)
        if self._is_worth_compressing(content):
            pieces: tuple[Any, ...] = (blosc.compress(content, *self._compressor),)
        else:
            pieces = (self._header_of_plain(content), content)
        checksum = _CHECKSUM.pack(functools.reduce(_extend, pieces, 0))
        path = os.path.join(self.folder, self.key(number))
        check_contained(self.root, os.path.dirname(path))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        unfinished = f"{path}.{uuid.uuid4().hex}.partial"
        try:
            with open(unfinished, "xb") as file:
                file.writelines((*pieces, checksum))
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
            raise

    def _is_worth_compressing(self, content: NDArray[np.uint8]) -> bool:
        step = content.size // _SAMPLES
        if step < 2 * _SAMPLE_BYTES:
            return True
        # From all over the chunk: the end of the last one is empty.
        sample = content[: _SAMPLES * step].reshape(_SAMPLES, step)[:, :_SAMPLE_BYTES]
        sample = np.ascontiguousarray(sample).reshape(-1)
        shrunk = len(blosc.compress(sample, *self._compressor))
        return shrunk <= _WORTH[self._compressor[0]] * sample.size

    def _header_of_plain(self, content: NDArray[np.uint8]) -> bytes:
        """Return what blosc writes before a content that it does not compress."""
        name, _, *settings = self._compressor
        # Its versions, flags and size of an element are taken from a few bytes that it stores so.
        few = blosc.compress(content[:1], name, 0, *settings)
        *versions, flags, element, _, _, _ = BLOSC_HEADER.unpack(few[: BLOSC_HEADER.size])
        size, block = content.size, min(content.size, _PLAIN_BLOCK)
        stored = size + BLOSC_HEADER.size
        return BLOSC_HEADER.pack(*versions, flags | BLOSC_PLAIN, element, size, block, stored)

    @property
    def _most_stored(self) -> int:
        return self.shape[0] * self.shape[1] + _OVERHEAD

    def _load(
        self, number: int, room: NDArray[np.uint8], size_digested: int = 0
    ) -> tuple[NDArray[np.uint8], bytes]:
        """Return what is in a file before its checksum, which has to fit, and lies in `room`.

        Instead of the checksum, the digest of so many bytes of what blosc stored as it is may be
        worked out; it is returned too, and is empty if it was not.
        """
        path = os.path.join(self.folder, self.key(number))
        try:
            with self._open(path) as file:
                end = self._size_of(file)
                content, checksum = room[: end - _CHECKSUM.size], room[end - _CHECKSUM.size : end]
                header = content[: BLOSC_HEADER.size]
                _read_into(file, header)
                digest = b""
                if size_digested and _says_plain(header):
                    digest = _read_digested(file, content, size_digested)
                else:
                    found = _read_summed(file, content)
                _read_into(file, checksum)
        except (IsADirectoryError, NotADirectoryError) as error:
            raise FileNotFoundError(*error.args) from None
        if not digest:
            (expected,) = _CHECKSUM.unpack(checksum.tobytes())
            if found != expected:
                raise ValueError(
                    f"its checksum is {found:08x}, and {expected:08x} was stored with it"
                )
        return content, digest

    def _open(self, path: str) -> io.FileIO:
        """Open a file of this store, and no folder, pipe or link out of it."""
        check_contained(self.root, path)
        # Without waiting for a pipe, in which nobody may write.
        file = open(os.open(path, _READ), "rb", buffering=0)  # noqa: SIM115 - the caller closes it
        try:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            if not stat.S_ISREG(mode):
                raise ValueError("it is no file")
        except BaseException:
            file.close()
            raise
        return file

    def _size_of(self, file: io.FileIO) -> int:
        """Return the size of a chunk's file, which can be one."""
        size = os.fstat(file.fileno()).st_size
        if not _OVERHEAD <= size <= self._most_stored:
            raise ValueError(
                f"it has {size} bytes, and chunks have {_OVERHEAD} to {self._most_stored}"
            )
        return size


def _says_plain(header: NDArray[np.uint8]) -> bool:
    """Whether blosc's header, if it is one, says that what follows is stored as it is."""
    return bool(header[2] & BLOSC_PLAIN)


def _read_digested(file: io.FileIO, content: NDArray[np.uint8], size: int) -> bytes:
    """Read what follows blosc's header; return the digest of the first `size` bytes of it."""
    start = BLOSC_HEADER.size
    filled, digest = start, 0
    if HAS_XXH3_STREAM:
        filled, digest = file_kernels.read_digested(content, file.fileno(), start, size)
    if filled == len(content):
        return int(digest).to_bytes(8, "big")
    # What the kernel could not read is an error here, unless it was a signal.
    _read_into(file, content[filled:])
    return digest_of(content[start : start + size])


def _read_summed(file: io.FileIO, content: NDArray[np.uint8]) -> int:
    """Read what follows blosc's header; return the CRC-32C of both."""
    checksum = _extend(0, content[: BLOSC_HEADER.size])
    for start in range(BLOSC_HEADER.size, len(content), file_kernels.PIECE_BYTES):
        piece = content[start : start + file_kernels.PIECE_BYTES]
        _read_into(file, piece)
        checksum = _extend(checksum, piece)
    return checksum


def _read_into(file: io.FileIO, room: NDArray[np.uint8]) -> None:
    """Fill `room` with what comes next in a file."""
    filled = 0
    while filled < len(room):
        found = file.readinto(room[filled:].data)
        if not found:
            raise ValueError("it ended while it was read")
        filled += found


def _extend(checksum: int, content: bytes | NDArray[np.uint8]) -> int:
    """Return the CRC-32C of what had `checksum` before, and of what follows."""
    return int(crc32c.crc32c(content, checksum))


def _chunk_shape(metadata: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return rows and bytes of a chunk, or None if the array is not stored as a part is."""
    shape, grid = metadata["shape"], metadata["chunk_grid"]
    if len(shape) != 2 or metadata["data_type"] != "uint8" or metadata.get("storage_transformers"):
        return None
    if grid["name"] != "regular" or not _are_codecs_of_a_part(metadata["codecs"]):
        return None
    rows, width = grid["configuration"]["chunk_shape"]
    if width != shape[1] or not 0 < rows * width <= MOST_CHUNK_BYTES:
        return None
    return rows, width


def _compressor(metadata: Mapping[str, Any]) -> tuple[bytes, int, int, int, int]:
    """Return name, level, shuffle, bytes of a block and of an element."""
    stored_as = metadata["codecs"][1]["configuration"]
    name, level = stored_as["cname"].encode(), stored_as["clevel"]
    return name, level, blosc.NOSHUFFLE, stored_as["blocksize"], stored_as.get("typesize") or 1


def _are_codecs_of_a_part(codecs: Any) -> bool:
    if [codec["name"] for codec in codecs] != ["bytes", "blosc", "crc32c"]:
        return False
    compressor = codecs[1]["configuration"]
    return compressor["cname"] in CODECS and compressor["shuffle"] == "noshuffle"
