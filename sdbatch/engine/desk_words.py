"""What a worker says: events of failure for the driver, lines of log for people."""

from __future__ import annotations

import traceback

from sdbatch.engine.events import ShardDone, ShardFailed
from sdbatch.engine.log_file import LogFile
from sdbatch.engine.open_shard import OpenShard
from sdbatch.errors import RenderError, SdbatchError
from sdbatch.results import RenderedImage, RowFailure


def failed_event(worker: str, shard_id: int, error: Exception, unfit: bool) -> ShardFailed:
    """An error as the driver hears of it.

    Args:
        shard_id: -1 when no shard was open.
        unfit: The worker cannot go on, whatever the error says.
    """
    known = isinstance(error, SdbatchError)
    return ShardFailed(
        worker=worker,
        shard_id=shard_id,
        error_type=type(error).__name__,
        message=str(error) if known else _one_line(error),
        exit_code=error.exit_code if isinstance(error, SdbatchError) else 1,
        retryable=unfit or not known or error.retryable,  # type: ignore[attr-defined]
        worker_unfit=unfit or isinstance(error, RenderError),
    )


class DeskLog:
    """Lines of one worker's log."""

    def __init__(self, log: LogFile, worker: str) -> None:
        self._log, self._worker = log, worker

    def about(self, shard: OpenShard, event: str, message: str = "", level: str = "info") -> None:
        """A line about a shard."""
        lease = shard.lease
        facts = {"shard": lease.shard.shard_id, "attempt": shard.attempt, "worker": self._worker}
        self._log.say(event, message, level, **facts)

    def opened(self, shard: OpenShard) -> None:
        """A lease was opened."""
        kept = f", {shard.reused} of them from parts" if shard.reused else ""
        self.about(shard, "shard_opened", f"{shard.num_images} pictures{kept}")

    def committed(self, shard: OpenShard, done: ShardDone) -> None:
        """A shard has its record."""
        counts = f"{done.success} drawn, {done.failed} failed, {done.filtered} filtered"
        if done.won:
            self.about(shard, "shard_committed", counts)
        else:
            self.about(shard, "commit_lost", f"another attempt was first ({counts})")

    def failed(self, event: ShardFailed, error: Exception) -> None:
        """An attempt came to nothing."""
        facts: dict[str, object] = {"worker": self._worker, "error_type": event.error_type}
        if event.shard_id >= 0:
            facts["shard"] = event.shard_id
        if not isinstance(error, SdbatchError):
            facts["traceback"] = "".join(traceback.format_exception(error))
        self._log.say("shard_failed", event.message, "error", **facts)

    def row(self, shard: OpenShard, result: RenderedImage | RowFailure) -> None:
        """A row failed; of others the log says nothing."""
        if isinstance(result, RowFailure):
            self._log.say(
                "row_failed",
                result.error_message,
                "warning",
                shard=shard.lease.shard.shard_id,
                attempt=shard.attempt,
                worker=self._worker,
                row=result.row.row_index,
                image=result.row.image_index,
                error_type=result.error_type,
                traceback=result.traceback or None,
            )

    def unscored(self, image: RenderedImage | RowFailure, reason: str) -> None:
        """A scorer failed on a picture, which is kept without its number."""
        row = image.row
        facts = {"worker": self._worker, "row": row.row_index, "image": row.image_index}
        self._log.say("picture_unscored", reason, "warning", **facts)

    def trouble(self, event: str, message: str) -> None:
        """The store fails, or is back."""
        level = "warning" if event == "store_trouble" else "info"
        self._log.say(event, message, level, worker=self._worker)


def _one_line(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({frame[0].filename.rsplit('/', 1)[-1]}:{frame[0].lineno})" if frame else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
