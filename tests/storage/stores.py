"""Zarr stores that misbehave on purpose, or tell what was asked of them."""

import time

from zarr.storage import MemoryStore, WrapperStore


class RecordingStore(WrapperStore):
    """Remembers the keys that were set, in order."""

    def __init__(self, store=None):
        super().__init__(store or MemoryStore())
        self.keys = []

    async def set(self, key, value):
        await super().set(key, value)
        self.keys.append(key)


class SlowStore(WrapperStore):
    """Takes its time to set a chunk."""

    def __init__(self, store, seconds):
        super().__init__(store)
        self.seconds = seconds

    async def set(self, key, value):
        if "/c/" in key:
            time.sleep(self.seconds)
        await super().set(key, value)


class FailingStore(WrapperStore):
    """Has no space left for another chunk, of arrays with that in their path, after a few."""

    def __init__(self, store, chunks, within=""):
        super().__init__(store)
        self.chunks = chunks
        self.within = within

    async def set(self, key, value):
        if "/c/" in key and self.within in key:
            if self.chunks == 0:
                raise OSError(28, "No space left on device")
            self.chunks -= 1
        await super().set(key, value)


class ReadingStore(WrapperStore):
    """Remembers the keys that were read, also through its read-only copies."""

    def __init__(self, store, keys=None):
        super().__init__(store)
        self.keys = [] if keys is None else keys

    def _with_store(self, store):
        return type(self)(store, self.keys)

    async def get(self, key, prototype, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        if found is not None:
            self.keys.append(key)
        return found

    async def get_partial_values(self, prototype, key_ranges):
        raise NotImplementedError("nothing here reads in this way")

    def chunks(self):
        """Return the chunks of states that were read, and forget everything read so far."""
        found = [key for key in self.keys if "/states/c/" in key]
        self.keys.clear()
        return found


class SnapshotStore(WrapperStore):
    """Remembers everything it held after each change: what a kill in that moment would leave."""

    def __init__(self):
        super().__init__(MemoryStore())
        self.snapshots = []

    async def set(self, key, value):
        await super().set(key, value)
        self.snapshots.append(dict(self._store._store_dict))

    async def set_if_not_exists(self, key, value):
        await super().set_if_not_exists(key, value)
        self.snapshots.append(dict(self._store._store_dict))

    async def delete(self, key):
        await super().delete(key)
        self.snapshots.append(dict(self._store._store_dict))

    async def delete_dir(self, prefix):
        # Key by key, as a file system does it.
        async for key in self.list_prefix(f"{prefix.rstrip('/')}/"):
            await self.delete(key)


class LockedStore(WrapperStore):
    """Says that it can be written to, and then refuses."""

    async def set(self, key, value):
        raise PermissionError(13, "Permission denied")

    async def set_if_not_exists(self, key, value):
        raise PermissionError(13, "Permission denied")

    async def delete_dir(self, prefix):
        raise PermissionError(13, "Permission denied")
