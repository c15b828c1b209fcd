"""Files of a finished shard into the store, loose pictures by several threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from sdbatch.dataset.files import LooseFile
from sdbatch.dataset.layouts import FILES, SUFFIXES
from sdbatch.dataset.row_groups import ShardFile
from sdbatch.records import RunSpec
from sdbatch.results import DataFile
from sdbatch.storage import layout
from sdbatch.storage.store import Store

THREADS = 8
AHEAD = 2 * THREADS
"""Loose files in memory at most."""


class ShardUpload:
    """Puts the files of one attempt at a shard where its layout wants them."""

    def __init__(self, store: Store, spec: RunSpec, shard_id: int, attempt: str) -> None:
        self._store, self._spec = store, spec
        self._shard_id, self._attempt = shard_id, attempt

    def put(self, kind: str, file: ShardFile) -> DataFile:
        """Store a closed local file.

        Raises:
            StorageError: The store did not take it.
        """
        key = self._key(kind)
        self._store.put_file(key, file.path)
        return DataFile(key, file.num_rows, file.size_bytes, file.sha256)

    def put_optional(self, kind: str, file: ShardFile | None) -> DataFile | None:
        """The same for a file that a shard may not have."""
        return None if file is None else self.put(kind, file)

    def put_loose(self, files: Iterable[LooseFile]) -> None:
        """Store loose files beside their index, all of them before this returns.

        Raises:
            StorageError: The store did not take one.
        """
        prefix = layout.pictures_prefix(self._shard_id, self._attempt, self._spec.run)
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="pictures") as pool:
            for file in files:
                waiting.append(pool.submit(self._store.put, f"{prefix}{file.name}", file.data))
                if len(waiting) >= AHEAD:
                    waiting.popleft().result()
            for upload in waiting:
                upload.result()

    def _key(self, kind: str) -> str:
        form, run = self._spec.output_spec.format, self._spec.run
        if kind != "data":
            return layout.data_key(kind, self._shard_id, self._spec.num_shards, self._attempt, run)
        if form == FILES:
            return layout.index_key(self._shard_id, self._attempt, run)
        return layout.data_key(
            kind, self._shard_id, self._spec.num_shards, self._attempt, run, SUFFIXES[form]
        )
