"""What storage tests share: fresh stores, and a store that fails on purpose."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from pathlib import Path

from sdbatch.errors import CommitUnknownError, ObjectNotFoundError, StorageError
from sdbatch.results import DataFile, ShardResult
from sdbatch.storage.layout import data_key
from sdbatch.storage.store import ObjectInfo, Store, open_store


class PowerCut(BaseException):
    """The process ends here; nothing after it runs."""


FAULTS = ("crash_before", "crash_after", "lost", "fail")
"""Die before or after the call took effect; the reply is lost; the call had no effect."""


def memory_store() -> Store:
    return open_store(f"memory://test-{uuid.uuid4().hex}")


class DictStore(Store):
    """The shortest store there is; fast enough for thousands of simulated runs."""

    def __init__(self) -> None:
        self.url = "dict://"
        self.objects: dict[str, bytes] = {}

    def get(self, key):
        if key not in self.objects:
            raise ObjectNotFoundError(key)
        return self.objects[key]

    def get_file(self, key, path):
        Path(path).write_bytes(self.get(key))

    def put(self, key, data):
        self.objects[key] = data

    def put_file(self, key, local_path):
        self.objects[key] = Path(local_path).read_bytes()
        return self.head(key)

    def head(self, key):
        found = self.objects.get(key)
        return None if found is None else ObjectInfo(key, len(found), str(hash(found)))

    def delete(self, key):
        self.objects.pop(key, None)

    def open(self, key):
        return io.BytesIO(self.get(key))

    def join(self, key):
        return key

    def sweep(self, folder, *, deep=False):
        return 0

    def _create_new(self, key, data):
        if key in self.objects:
            raise FileExistsError(key)
        self.objects[key] = data

    def _walk(self, prefix):
        return iter([self.head(key) for key in self.objects if key.startswith(prefix)])


class FaultStore(Store):
    """Hands every call to another store; call number k may be given a fault.

    `on_call` runs before each call: schedulers of several drivers switch there.
    """

    pause_s = 0.0

    def __init__(self, inner: Store, on_call: Callable[[], None] = lambda: None) -> None:
        self.inner, self.url, self.on_call = inner, inner.url, on_call
        self.calls = 0
        self.faults: dict[int, str] = {}

    def _step(self, call, *args):
        self.on_call()
        self.calls += 1
        fault = self.faults.pop(self.calls, "")
        creating = call == self.inner._create_new
        silence = CommitUnknownError("r", "no answer") if creating else StorageError("no answer")
        if fault == "crash_before":
            raise PowerCut
        if fault == "fail":
            raise silence
        result = call(*args)
        if fault == "crash_after":
            raise PowerCut
        if fault == "lost":
            raise silence
        return result

    def get(self, key):
        return self._step(self.inner.get, key)

    def get_file(self, key, path):
        return self._step(self.inner.get_file, key, path)

    def put(self, key, data):
        return self._step(self.inner.put, key, data)

    def put_file(self, key, local_path):
        return self._step(self.inner.put_file, key, local_path)

    def head(self, key):
        return self._step(self.inner.head, key)

    def delete(self, key):
        return self._step(self.inner.delete, key)

    def open(self, key):
        return self._step(self.inner.open, key)

    def join(self, key):
        return self.inner.join(key)

    def sweep(self, folder, *, deep=False):
        return self.inner.sweep(folder, deep=deep)

    def _create_new(self, key, data):
        return self._step(self.inner._create_new, key, data)

    def _walk(self, prefix):
        return iter(self._step(lambda: list(self.inner._walk(prefix))))


def make_result(shard_id: int = 0, attempt: str = "0a1b2c3d", num_shards: int = 3, **changes):
    """A plausible result of a shard of two pictures."""

    def file(kind):
        key = data_key(kind, shard_id, num_shards, attempt)
        return DataFile(key, num_rows=2, size_bytes=10, sha256="ab" * 32)

    facts = {
        "shard_id": shard_id,
        "attempt": attempt,
        "data": file("data"),
        "metadata": file("metadata"),
        "errors_file": None,
        "num_rows": 2,
        "success": 2,
        "failed": 0,
        "filtered": 0,
        "images_sha256": "cd" * 32,
        "errors": {},
        "started_at": "2026-01-01T00:00:00+00:00",
        "finished_at": f"2026-01-01T00:00:{10 + shard_id % 40}+00:00",
        "phase_seconds": {"denoise": 1.5},
        "row_steps": 40,
        "lane_steps": 80,
        "lane_slots": 96,
        "worker": "w0",
        "device_name": "cpu",
        "attempts": 1,
    }
    return ShardResult(**{**facts, **changes})
