"""What a repair is to make again: whatever a verification finds wrong with a shard."""

from __future__ import annotations

from collections.abc import Callable

from sdbatch.audit.verify import verify
from sdbatch.engine.rework_choice import Wish
from sdbatch.engine.take_over import DAMAGED
from sdbatch.errors import InputError
from sdbatch.records import Redo
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store

LEVELS = (1, 2, 3)
SHOWN = 4


def damage_chooser(
    store: Store, level: int, note: Callable[[str], None], run: str = layout.MAIN
) -> Callable[[RunFolder], Wish | str]:
    """How a repair finds its shards; see `verify` for the levels.

    Raises:
        InputError: The level is none of 1 to 3.
    """
    if level not in LEVELS:
        raise InputError(f"--level {level}: one of 1 (sizes), 2 (bytes), 3 (rows and pictures)")

    def choose(_: RunFolder) -> Wish | str:
        report = verify(store, run, level)
        shards = report.damaged_shards()
        other = [one for one in report.problems if one.shard_id is None or not one.file]
        for problem in other[:SHOWN]:
            note(f"note: no repair reaches {problem.key} ({problem.message}): put a copy back")
        if not shards:
            beyond = f", {len(other):,} problems beyond repair" if other else ""
            return f"nothing to repair: every shard is sound at level {level}{beyond}"
        for shard_id, files in list(shards.items())[:SHOWN]:
            note(f"shard {shard_id:05d}: damaged {', '.join(files)}")
        redo = Redo(DAMAGED)
        say = f"repair: {len(shards):,} of {report.shards:,} shards are damaged"
        return Wish(redo, tuple(shards), say)

    return choose
