"""Failed pictures of shards that were committed before this call, counted beside the run.

Names of records say which shards are done; only the records themselves say what failed. A
hundred thousand of them take a while to read, and nobody waits for them before drawing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Set

from sdbatch.errors import SdbatchError
from sdbatch.storage.commit import RunFolder

AT_ONCE = 256
"""So few records are read before the first lease: the count is right from the start."""


class EarlierFailures:
    """Counts the failed pictures of some committed shards.

    Args:
        folder: The run.
        shard_ids: The shards; those that are committed meanwhile are counted elsewhere.
        on_note: Told when the count cannot be had; it serves people alone.
    """

    def __init__(
        self, folder: RunFolder, shard_ids: Set[int], on_note: Callable[[str], None]
    ) -> None:
        self._folder, self._shard_ids, self._on_note = folder, shard_ids, on_note
        self._failed = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count_beside, name="earlier", daemon=True)
        if len(shard_ids) <= AT_ONCE:
            self._failed = self._count()
        else:
            self._thread.start()

    def __call__(self) -> int:
        """Failed pictures, 0 until they are known."""
        return self._failed

    def close(self) -> None:
        """Stop counting."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _count_beside(self) -> None:
        try:
            self._failed = self._count()
        except SdbatchError as error:
            self._on_note(f"note: failed pictures of earlier runs are not counted ({error})")

    def _count(self) -> int:
        failed = 0
        for record in self._folder.records():
            if self._over.is_set():
                return 0
            if record.result.shard_id in self._shard_ids:
                failed += record.result.failed
        return failed
