"""A rework that was begun, driven to its end: by its own command or by any other that comes.

Which shards are made again stands in the rework's record, so whoever finds it open can go
on with it; shards that have their revision already are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from sdbatch.engine.driver_loop import EngineResult
from sdbatch.engine.log_lines import RunLog
from sdbatch.engine.rework_choice import count_redone
from sdbatch.engine.session import Session, Work
from sdbatch.engine.take_over import DAMAGED
from sdbatch.errors import DamagedError, ObjectNotFoundError
from sdbatch.plan.sharding import lease_order
from sdbatch.storage import layout
from sdbatch.storage.commit import READERS, RunFolder
from sdbatch.storage.rework import Rework


def finish_rework(
    session: Session, folder: RunFolder, rework: Rework, log: RunLog
) -> EngineResult | None:
    """Make every shard of a rework that does not stand at its revision yet.

    Returns:
        How the engine ended; None when nothing was left to draw.

    Raises:
        DamagedError: It names shards that are not planned here.
        SdbatchError: From the engine's hooks.
    """
    work = _work(session, folder, rework)
    return session.run(work, log) if work.shards else None


def said_of(rework: Rework, folder: RunFolder) -> str:
    """One line for a person who meets a rework that was begun before."""
    left, planned = len(folder.rework_left(rework)), len(rework.shards)
    return (
        f"going on with the {rework.word} begun at {rework.created_at[:16]}Z: "
        f"{left:,} of {planned:,} shards left"
    )


def _work(session: Session, folder: RunFolder, rework: Rework) -> Work:
    prepared = session.prepared
    shards = [shard for shard in prepared.shards if shard.shard_id in rework.shards]
    if len(shards) != len(rework.shards):
        where = prepared.store.join(layout.rework_key(prepared.run, rework.number))
        raise DamagedError(where, "names shards that are not planned here")
    left = folder.rework_left(rework)
    done = [shard for shard in shards if shard.shard_id not in left]
    redrawn = _redrawn(folder, rework, left)
    return Work(
        shards=lease_order(shard for shard in shards if shard.shard_id in left),
        images=sum(shard.num_images for shard in shards) if redrawn is None else redrawn,
        images_done=sum(shard.num_images for shard in done) if redrawn is None else 0,
        num_shards=len(shards),
        shards_done=len(done),
        revisions=left,
        redo=rework.redo,
        counts_drawn=redrawn is not None,
        committed=len(prepared.shards),
    )


def _redrawn(folder: RunFolder, rework: Rework, left: Iterable[int]) -> int | None:
    """Pictures that are still to be drawn again; None when records cannot tell."""
    if rework.redo.kind == DAMAGED:
        return None
    standing = folder.standing()
    keys = [standing[shard_id] for shard_id in left if shard_id in standing]
    try:
        with ThreadPoolExecutor(READERS, thread_name_prefix="redrawn") as pool:
            records = pool.map(folder.read_record, keys)
            return sum(count_redone(rework.redo, record.result) for record in records)
    except (DamagedError, ObjectNotFoundError):
        return None  # such a shard is drawn anew, all of it
