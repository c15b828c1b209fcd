"""Where the scores that were made after a run lie.

scores/<name>/[run=<run>/]train-...parquet                  key and numbers of each row
__sdbatch/main/scores/<name>/scorer.json                    which model the name stands for
__sdbatch/<run>/scores/<name>/commits/000/00012.r1.json     the record of a shard's file
"""

from __future__ import annotations

import re

from sdbatch.errors import InputError
from sdbatch.storage import layout

_SCORER = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SCORER_KEY = re.compile(rf"/scores/({_SCORER.pattern})/scorer\.json$")


def scores_prefix(run: str, name: str = "") -> str:
    """Folder of the records of scores that were made after a run, of one scorer or of all.

    Raises:
        InputError: The name holds anything but small letters, digits and underscores.
    """
    if name and not _SCORER.fullmatch(name):
        raise InputError(f"score name {name!r}: small letters, digits and '_' only, at most 40")
    return f"{layout.state_prefix(run)}scores/{name}{'/' if name else ''}"


def scorer_key(name: str) -> str:
    """Which model is behind a name, for all runs of a dataset; created once."""
    return f"{scores_prefix(layout.MAIN, name)}scorer.json"


def parse_scorer(key: str) -> str | None:
    """Name of a scorer's key."""
    match = _SCORER_KEY.search(key)
    return match[1] if match else None


def score_key(run: str, name: str, shard_id: int, revision: int = 0) -> str:
    """The record of one shard's scores, made of this revision of the shard; created once."""
    commit = layout.commit_key(run, shard_id, revision)
    return f"{scores_prefix(run, name)}{commit.removeprefix(layout.state_prefix(run))}"


def score_kind(name: str) -> str:
    """Folder of the files of a scorer, for `data_key` and `data_prefix`."""
    scores_prefix(layout.MAIN, name)
    return f"scores/{name}"
