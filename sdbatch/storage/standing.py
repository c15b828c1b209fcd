"""Which record stands for each shard, found from names alone.

The highest revision of a shard stands. Names come from listings, many folders at a time;
folders whose shards all stand in the newest compaction need no listing, unless a
rework that is newer than the compaction made one of their shards anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sdbatch.errors import DamagedError, InputError, ObjectNotFoundError
from sdbatch.storage import layout
from sdbatch.storage.compaction import Compaction, Line, newest_compaction
from sdbatch.storage.rework import read_rework, rework_numbers
from sdbatch.storage.store import ObjectInfo, Store
from sdbatch.storage.success import newest_success

FEW_GROUPS = 4  # so many folders are listed in one call


@dataclass(frozen=True, slots=True)
class Plan:
    """What finding records must know of a run's plan."""

    plan_id: str
    num_shards: int

    @property
    def groups(self) -> range:
        """Folders of its commit records."""
        return range(-(-self.num_shards // layout.GROUP))

    def shards_of(self, group: int) -> range:
        """Its shards in one folder."""
        first = group * layout.GROUP
        return range(first, min(first + layout.GROUP, self.num_shards))


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands at one moment.

    Attributes:
        revisions: Shard to its highest revision.
        tags: Store's marks of the records that were listed; the others are in `compaction`.
        compaction: The newest one that could be used, if any was asked for.
    """

    revisions: Mapping[int, int]
    tags: Mapping[int, str]
    compaction: Compaction | None


class Bodies:
    """Records out of a compaction, asked for in the order of shards."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._lines: Iterator[Line] = (
            standing.compaction.lines() if standing.compaction else iter(())
        )
        self._line = next(self._lines, None)

    def take(self, shard_id: int) -> Line | None:
        """The copy of a shard's standing record; None when it must be read where it lies.

        A listed record whose mark is not that of the copied one is not the copied one.
        """
        while self._line and self._line.shard_id < shard_id:
            self._line = next(self._lines, None)
        line = self._line
        if line is None or line.shard_id != shard_id:
            return None
        if line.revision != self._standing.revisions[shard_id]:
            return None
        return line if self._standing.tags.get(shard_id, line.tag) == line.tag else None


def find_standing(store: Store, run: str, plan: Plan | None) -> Standing:
    """What stands, without listing folders that the newest compaction knows whole.

    Args:
        plan: None when it is not known; everything is listed then.
    """
    compaction = newest_compaction(store, run, plan.plan_id) if plan else None
    if plan is None or compaction is None:
        infos = _list_groups(store, run, plan.groups if plan else ())
        return Standing(*_newest(infos), None)
    newer = _reworked_since(store, run, compaction.success)
    covered: dict[int, int] = {}
    listed = []
    for group in plan.groups:
        shards = plan.shards_of(group)
        known = newer is not None and newer.isdisjoint(shards)
        if known and all(shard_id in compaction.revisions for shard_id in shards):
            covered |= {shard_id: compaction.revisions[shard_id] for shard_id in shards}
        else:
            listed.append(group)
    if not covered:
        return Standing(*_newest(_list_groups(store, run, plan.groups)), compaction)
    prefixes = [layout.group_prefix(run, group) for group in listed]
    revisions, tags = _newest(store.list_many(prefixes))
    return Standing(covered | revisions, tags, compaction)


def list_standing(store: Store, run: str, plan: Plan | None, *, copies: bool = True) -> Standing:
    """What stands, from listings of every folder alone: nothing is believed.

    Args:
        copies: Bring the newest compaction along, whose copies `Bodies` checks by tag.
    """
    many = plan is not None and len(plan.groups) > FEW_GROUPS
    groups = range(layout.MAX_SHARDS // layout.GROUP + 1) if many else ()
    found = _newest(_list_groups(store, run, groups))
    compaction = newest_compaction(store, run, plan.plan_id) if plan and copies else None
    return Standing(*found, compaction)


def list_revisions(store: Store, run: str, shards: Iterable[int]) -> dict[int, int]:
    """Revisions of the folders in which these shards lie, from fresh listings."""
    groups = sorted({shard_id // layout.GROUP for shard_id in shards})
    prefixes = [layout.group_prefix(run, group) for group in groups]
    return _newest(store.list_many(prefixes))[0]


def _list_groups(store: Store, run: str, groups: Iterable[int]) -> Iterator[ObjectInfo]:
    prefixes = [layout.group_prefix(run, group) for group in groups]
    if len(prefixes) <= FEW_GROUPS:
        prefixes = [layout.commits_prefix(run)]
    return store.list_many(prefixes)


def _newest(infos: Iterable[ObjectInfo]) -> tuple[dict[int, int], dict[int, str]]:
    revisions: dict[int, int] = {}
    tags: dict[int, str] = {}
    for info in infos:
        shard_id, revision = layout.parse_commit(info.key) or (-1, -1)
        if revision >= revisions.get(shard_id, 0):
            revisions[shard_id], tags[shard_id] = revision, info.tag
    return revisions, tags


def _reworked_since(store: Store, run: str, success: int) -> set[int] | None:
    """Shards of reworks that a compaction may not know; None when that cannot be found out.

    Every success record above 0 closed the rework of its number: one that is not listed was
    lost, and nobody knows which shards it named.
    """
    shards: set[int] = set()
    newest = newest_success(store, run)  # before the reworks, which come first themselves
    numbers = rework_numbers(store, run)
    closed = range(max(success, 0) + 1, (newest or 0) + 1)
    if not set(closed) <= set(numbers):
        return None
    for number in numbers:
        if number > success:
            try:
                shards.update(read_rework(store, run, number).shards)
            except (DamagedError, InputError, ObjectNotFoundError):
                return None
    return shards
