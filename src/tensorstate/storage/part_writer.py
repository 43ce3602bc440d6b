"""The states of one writer: whole chunks in, committed rows out."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.core.sync import sync

from tensorstate.nodes import DamagedMetadataError, digest_of, update_attributes
from tensorstate.storage.arrays import DamagedChunkError, endless, with_rows
from tensorstate.storage.chunks import LocalChunks
from tensorstate.storage.counted import ATTRIBUTE, CountedRows
from tensorstate.storage.digests import ChunkDigests, DigestsWriter
from tensorstate.storage.leftovers import remove_from_part
from tensorstate.storage.listed import layers_attribute
from tensorstate.storage.offsets import EqualLengths, OffsetsWriter, StoredOffsets
from tensorstate.storage.part import PartReader
from tensorstate.storage.stores import list_names

__all__ = ["PartWriter"]


class PartWriter:
    """Appends packed states to an array, in whole chunks, committing whole instances.

    The commit order is chunk, then shape, then ``rows``: a reader that trusts ``rows`` sees only
    what was written, whenever the writer is killed. Where instances differ in length, their
    offsets are stored before the shape, and ``offsets``, the number of them, beside ``rows``. So
    are the digests of chunks, unless an earlier version began the part without.

    Parameters
    ----------
    array : zarr.Array of uint8, shape (rows, W)
        The part's states.
    where : str
        Names run, layer and part in an error.
    positions : int or None
        Rows of one instance; None if instances differ in them, and the part has offsets.
    instances : int, default 0
        Instances to go on after; what the array holds past them is dropped.

    Attributes
    ----------
    committed, instances : int
        Rows that are committed, and the instances that they belong to.
    """

    def __init__(
        self, array: zarr.Array[Any], where: str, positions: int | None, instances: int = 0
    ) -> None:
        self.array = array
        self._where = where
        self._positions = positions
        self._chunk_rows = array.chunks[0]
        self._endless = endless(array)
        self._local = LocalChunks.of(array)
        self._buffer = np.empty(array.chunks, np.uint8)
        self._offsets = OffsetsWriter(array, where) if positions is None else None
        self._digests: DigestsWriter | None = None
        self._start = self._fill = self._written = self.committed = self.instances = 0
        self._truncate(instances)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk before it is compressed."""
        return self._buffer.nbytes

    def append(self, rows: NDArray[np.uint8], lengths: ArrayLike | None = None) -> None:
        """Take rows (n, W), of instances of these lengths if they differ; write full chunks."""
        if self._offsets is not None and lengths is not None:
            self._offsets.append(lengths)
        taken = 0
        while taken < len(rows):
            n = min(len(rows) - taken, self._chunk_rows - self._fill)
            self._buffer[self._fill : self._fill + n] = rows[taken : taken + n]
            self._fill += n
            taken += n
            if self._fill == self._chunk_rows:
                self._write_chunk()
                self._start += self._chunk_rows
                self._fill = 0
        if self._offsets and self._offsets.waiting > self._chunk_rows + self._offsets.chunk_length:
            # Instances without rows fill no chunk of states that would take them along.
            self.flush()

    def flush(self) -> None:
        """Write and commit the partial chunk, padded with zeros; the next flush rewrites it."""
        if self._start + self._fill > self._written:
            self._buffer[self._fill :] = 0
            self._write_chunk()
        else:
            self._commit()

    def reset(self) -> None:
        """Drop every row, as if nothing had been appended."""
        self._truncate(0)

    def commit_instances(self, instances: int, layers: Iterable[str]) -> None:
        """Store how many instances these layers of a part have committed, if parts tell that."""
        if self.array.attrs.get("instances", instances) != instances:
            changes = {"instances": instances, **layers_attribute(layers)}
            self.array = update_attributes(self.array, changes)

    def commit_counted(self, counted: CountedRows) -> None:
        """Store what counts the first rows: from then on, nobody reads them."""
        self.array = update_attributes(self.array, {ATTRIBUTE: counted.attribute()})

    def drop_counted(self, counted: CountedRows) -> None:
        """Remove the chunks that hold nothing but counted rows."""
        chunks = self.array.store_path / "c"
        for name in list_names(chunks):
            end = min((int(name) + 1) * self._chunk_rows, self._written)
            if end <= counted.rows:
                sync((chunks / name).delete_dir())

    def _write_chunk(self) -> None:
        if self._local is None:
            self._endless[self._start : self._start + self._chunk_rows] = self._buffer
        else:
            self._local.write(self._start // self._chunk_rows, self._buffer)
        if self._digests is not None and self._fill == self._chunk_rows:
            self._digests.add(self._buffer)
        self._written = self._start + self._fill
        self._commit()

    def _commit(self) -> None:
        """Commit the instances of which every row is written."""
        if self._offsets is None:
            assert self._positions is not None
            whole = EqualLengths(self._positions, self._written)
            instances = len(whole)
            rows = whole.rows_of_first(instances)
            attributes: dict[str, Any] = {"rows": rows}
        else:
            instances, rows = self._offsets.store(self._written)
            attributes = {"rows": rows, **self._offsets.attributes()}
        if instances > self.instances:
            if self._digests is not None:
                self._digests.commit(rows, self._last_digest(rows))
                attributes["digests"] = self._digests.attribute()
            # Shape and attributes are one piece of metadata, and so are written at once.
            self.array = update_attributes(with_rows(self.array, rows), attributes)
            self.committed, self.instances = rows, instances

    def _truncate(self, instances: int) -> None:
        stored = PartReader(self.array, self._where)
        extents = stored.extents(self._positions)
        if instances > len(extents):
            raise DamagedMetadataError(
                f"{self._where} has {len(extents)} committed instances, but the run says "
                f"{instances}: its metadata is damaged"
            )
        rows = extents.rows_of_first(instances)
        counted = stored.counted.rows if rows else 0
        if rows < counted:
            raise ValueError(
                f"{self._where} has counted and dropped {counted} rows, but the run goes on after "
                f"{rows}, since another layer was reset: write it anew, with mode='w'"
            )
        self._start = rows - rows % self._chunk_rows
        self._fill = rows - self._start
        # Rows that are counted are not read again, and may be gone.
        self._buffer[: self._fill] = stored[self._start : rows] if counted < rows else 0
        # In the reverse order of a commit, and only what changes. Other rows may take the place of
        # those that are dropped: under a new uuid, no cached count of these is taken for theirs.
        changes: dict[str, Any] = {}
        if rows < len(stored):
            changes = {"rows": rows, "uuid": str(uuid.uuid4())}
        if counted < stored.counted.rows:
            changes[ATTRIBUTE] = None
        if stored.digests is not None:
            self._digests = self._digests_after(stored.digests, rows)
            if rows < len(stored):
                changes["digests"] = self._digests.attribute()
        if self._offsets is not None:
            assert isinstance(extents, StoredOffsets)
            self._offsets.go_on_after(extents, instances)
            if instances < len(extents):
                changes.update(self._offsets.attributes())
        if changes:
            self.array = update_attributes(self.array, changes)
        if rows < self.array.shape[0]:
            self.array.resize((rows, self.array.shape[1]))
        if self._offsets is not None:
            self._offsets.drop_others()
        if self._local is not None:
            remove_from_part(self._local, rows)
        self.committed = self._written = rows
        self.instances = instances

    def _last_digest(self, rows: int) -> bytes | None:
        """Return the digest of the last of so many rows; None if they are committed already."""
        if rows == self.committed:
            return None
        # They are in the chunk at hand: instances that end in those before are committed.
        return digest_of(self._buffer[: rows - self._start]) if rows % self._chunk_rows else b""

    def _digests_after(self, stored: ChunkDigests, rows: int) -> DigestsWriter:
        """Return what goes on after the digests of the first rows, which are in the buffer."""
        last = digest_of(self._buffer[: self._fill]) if self._fill else b""
        try:
            return DigestsWriter(stored, rows, stored.last if rows == stored.rows else last)
        except ValueError as error:
            raise DamagedChunkError(f"{self._where} cannot go on: {error}") from error
