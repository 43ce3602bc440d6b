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
    """Has no space left for another chunk after the first few."""

    def __init__(self, store, chunks):
        super().__init__(store)
        self.chunks = chunks

    async def set(self, key, value):
        if "/c/" in key:
            if self.chunks == 0:
                raise OSError(28, "No space left on device")
            self.chunks -= 1
        await super().set(key, value)
