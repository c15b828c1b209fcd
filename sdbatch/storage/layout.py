"""Where everything of a run lies: the only place that spells a key.

Variable parts are digits, hex, fixed words and the run's name; ids and prompts never
enter a key, since object stores and file systems disagree about nearly every other
character and a manifest is written by strangers. Nothing here touches a store.
`FORMAT.md` says what each object holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sdbatch.errors import InputError

STATE_ROOT = "__sdbatch"
MAIN = "main"
KINDS = ("data", "metadata", "errors", "filtered")
"""Folders of dataset files, each holding files of the same name for the same attempt."""

PICTURES = "images"
"""Folder of loose pictures, where a dataset has them: one folder below it for each attempt."""

FOLDERS = (*KINDS, PICTURES)
INDEX_NAME = "index.parquet"
"""What the data file of a shard of loose pictures is called, beside them."""

CONTENT_SUFFIXES = {
    "plan": "parquet",
    "occurrences": "parquet",
    "bad-rows": "parquet",
    "schema": "arrow",
}
"""Objects that are named by their content, so that two plans never share one."""

MAX_SHARDS = 100_000  # five digits everywhere: readers know no other pattern
GROUP = 256
"""Shards whose commit records lie in one folder, so that many can be listed at once."""

_RUN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_DEVICE = re.compile(r"(?i:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")
_RUN_MARK = re.compile(rf"/appended/({_RUN.pattern})\.json$")
_RUN_FOLDER = re.compile(rf"[a-z]+/run=({_RUN.pattern})/")
_TOKEN = re.compile(r"[a-z0-9-]{1,80}")
_COMMIT = re.compile(r"/commits/\d{3}/(\d{5})(?:\.r(\d+))?\.json$")
_SUCCESS = re.compile(r"/success/(\d+)\.json$")
_EPOCH = re.compile(r"/lease/(\d{6})\.json$")
_LEASE = re.compile(r"/lease/(\d{6})\.(?:json|hb)$")
_STOP = re.compile(r"/stop/(\d{6})$")
_REWORK = re.compile(r"/rework/(\d+)\.json$")
_COMPACTION = re.compile(r"/ckpt/(\d+)\.jsonl\.gz$")
_LOG = re.compile(r"/logs/([a-z0-9-]{1,80})/([a-z0-9-]{1,80})-(\d{4,})\.jsonl$")
_PICTURE = re.compile(r"(\d{5})-([0-9a-f]{8})/([^/]+)")
_FILE = re.compile(r"train-(\d{5})-of-(\d{5,6})-([0-9a-f]{8})\.[a-z]+")


@dataclass(frozen=True, slots=True)
class FileName:
    """What the name of a dataset file says.

    Attributes:
        num_shards: None where the name does not say it.
    """

    kind: str
    shard_id: int
    num_shards: int | None
    attempt: str


def state_prefix(run: str) -> str:
    """Folder of everything of a run that is not the dataset itself.

    Raises:
        InputError: The name is not made of letters, digits, dots, dashes and underscores, is
            `main` written otherwise, which many disks take for `main`, or a device of Windows.
    """
    if _DEVICE.fullmatch(run):
        raise InputError(f"run name {run!r}: is a device on Windows, take another")
    if not _RUN.fullmatch(run):
        raise InputError(
            f"run name {run!r}: letters, digits and . _ - inside, at most 64, such as 20261122"
        )
    if run != MAIN and run.lower() == MAIN:
        raise InputError(f"run name {run!r}: many disks take it for 'main', take another")
    return f"{STATE_ROOT}/{run}/"


def run_marks_prefix() -> str:
    """Folder of marks that say which runs were appended to `main`."""
    return f"{state_prefix(MAIN)}appended/"


def run_mark_key(run: str) -> str:
    """Says that a run was appended; it is created before anything else of that run."""
    state_prefix(run)
    return f"{run_marks_prefix()}{run}.json"


def parse_run_mark(key: str) -> str | None:
    """The run of a mark's key."""
    match = _RUN_MARK.search(key)
    return match[1] if match else None


def job_key(run: str) -> str:
    """What was asked and decided; created once."""
    return f"{state_prefix(run)}job.json"


def content_key(run: str, kind: str, sha16: str) -> str:
    """An object named by its content, one of `CONTENT_SUFFIXES`."""
    if kind not in CONTENT_SUFFIXES:
        raise InputError(f"object {kind!r}: {', '.join(CONTENT_SUFFIXES)} are known")
    return f"{state_prefix(run)}{kind}-{_hex(sha16, 16)}.{CONTENT_SUFFIXES[kind]}"


def manifest_key(run: str, sha16: str) -> str:
    """A manifest that was rewritten for workers, named by its content."""
    return f"{state_prefix(run)}manifest/{_hex(sha16, 16)}.parquet"


def progress_key(run: str) -> str:
    """Where the driver says how far it is."""
    return f"{state_prefix(run)}progress.json"


def preview_key(run: str) -> str:
    """Contact sheet while the run goes on."""
    return f"{state_prefix(run)}preview.jpg"


def commits_prefix(run: str) -> str:
    """Folder of all commit records."""
    return f"{state_prefix(run)}commits/"


def group_prefix(run: str, group: int) -> str:
    """Folder of the commit records of shards `GROUP * group` and following."""
    return f"{commits_prefix(run)}{group:03d}/"


def commit_prefix(run: str, shard_id: int) -> str:
    """What the keys of all records of one shard begin with."""
    _check_shard(shard_id)
    return f"{group_prefix(run, shard_id // GROUP)}{shard_id:05d}"


def commit_key(run: str, shard_id: int, revision: int = 0) -> str:
    """A shard's commit record; revision 0 is the first."""
    return f"{commit_prefix(run, shard_id)}{_revision(revision)}.json"


def parse_commit(key: str) -> tuple[int, int] | None:
    """(shard_id, revision) of a commit record's key."""
    match = _COMMIT.search(key)
    return (int(match[1]), int(match[2] or 0)) if match else None


def successes_prefix(run: str) -> str:
    """Folder of success records."""
    return f"{state_prefix(run)}success/"


def success_key(run: str, number: int) -> str:
    """The n-th success record, from 0."""
    return f"{successes_prefix(run)}{number}.json"


def parse_success(key: str) -> int | None:
    """Number of a success record's key."""
    match = _SUCCESS.search(key)
    return int(match[1]) if match else None


def reworks_prefix(run: str) -> str:
    """Folder of the retries and repairs that were ever begun."""
    return f"{state_prefix(run)}rework/"


def rework_key(run: str, number: int) -> str:
    """Shards that are made again; the success record of the same number closes it."""
    return f"{reworks_prefix(run)}{number}.json"


def parse_rework(key: str) -> int | None:
    """Number of a rework's key."""
    match = _REWORK.search(key)
    return int(match[1]) if match else None


def compactions_prefix(run: str) -> str:
    """Folder of commit records gathered in a few objects."""
    return f"{state_prefix(run)}ckpt/"


def compaction_key(run: str, number: int) -> str:
    """The n-th gathering of commit records, from 0."""
    return f"{compactions_prefix(run)}{number}.jsonl.gz"


def parse_compaction(key: str) -> int | None:
    """Number of a compaction's key."""
    match = _COMPACTION.search(key)
    return int(match[1]) if match else None


def stops_prefix(run: str) -> str:
    """Folder of requests to stop."""
    return f"{state_prefix(run)}stop/"


def stop_key(run: str, epoch: int) -> str:
    """Asks the driver of this epoch to stop; a later driver does not heed it."""
    return f"{stops_prefix(run)}{epoch:06d}"


def parse_stop(key: str) -> int | None:
    """Epoch of a request to stop."""
    match = _STOP.search(key)
    return int(match[1]) if match else None


def logs_prefix(run: str) -> str:
    """Folder of what drivers and workers wrote down."""
    return f"{state_prefix(run)}logs/"


def log_key(run: str, session: str, writer: str, number: int) -> str:
    """A piece of the log of one writer (`driver`, `w0`, ...) in one session.

    Raises:
        InputError: A name holds anything but small letters, digits and dashes.
    """
    if not _TOKEN.fullmatch(session) or not _TOKEN.fullmatch(writer):
        raise InputError(f"log {session!r}, {writer!r}: small letters, digits and '-' only")
    return f"{logs_prefix(run)}{session}/{writer}-{number:04d}.jsonl"


def parse_log(key: str) -> tuple[str, str, int] | None:
    """(session, writer, number) of a piece of a log."""
    match = _LOG.search(key)
    return (match[1], match[2], int(match[3])) if match else None


def leases_prefix(run: str) -> str:
    """Folder of driver epochs and their heartbeats."""
    return f"{state_prefix(run)}lease/"


def lease_key(run: str, epoch: int) -> str:
    """Who drives since when; created once per epoch, from 1."""
    return f"{leases_prefix(run)}{epoch:06d}.json"


def heartbeat_key(run: str, epoch: int) -> str:
    """The epoch's sign of life, rewritten while it lasts."""
    return f"{leases_prefix(run)}{epoch:06d}.hb"


def parse_epoch(key: str) -> int | None:
    """Epoch of a lease's key; None for heartbeats."""
    match = _EPOCH.search(key)
    return int(match[1]) if match else None


def parse_lease(key: str) -> int | None:
    """Epoch of the key of a lease or of its heartbeat."""
    match = _LEASE.search(key)
    return int(match[1]) if match else None


def tokens_prefix(run: str) -> str:
    """Folder of marks by which nodes prove that they see the output."""
    return f"{state_prefix(run)}tokens/"


def token_key(name: str, run: str = MAIN) -> str:
    """A mark left by the driver or a worker.

    Raises:
        InputError: The name holds anything but small letters, digits and dashes.
    """
    if not _TOKEN.fullmatch(name):
        raise InputError(f"token name {name!r}: small letters, digits and '-' only")
    return f"{tokens_prefix(run)}{name}"


def parts_prefix(run: str, shard_id: int | None = None, revision: int = 0) -> str:
    """Folder of the parts of one open revision of a shard, or of all parts."""
    if shard_id is None:
        return f"{state_prefix(run)}parts/"
    _check_shard(shard_id)
    return f"{state_prefix(run)}parts/{shard_id:05d}{_revision(revision)}/"


def part_key(
    run: str, shard_id: int, attempt: str, number: int, suffix: str, revision: int = 0
) -> str:
    """A part: suffix `parquet` holds pictures, `json` describes them."""
    folder = parts_prefix(run, shard_id, revision)
    return f"{folder}{_hex(attempt, 8)}-{number:04d}.{suffix}"


def data_prefix(kind: str, run: str = MAIN) -> str:
    """Where dataset files of a kind lie."""
    state_prefix(run)
    return f"{kind}/" if run == MAIN else f"{kind}/run={run}/"


def data_key(
    kind: str,
    shard_id: int,
    num_shards: int,
    attempt: str,
    run: str = MAIN,
    suffix: str = "parquet",
) -> str:
    """A dataset file; its name is unique to the attempt, so it is never overwritten.

    `kind` is one of `KINDS`, `attempt` eight hex digits.
    """
    _check_shard(shard_id)
    name = f"train-{shard_id:05d}-of-{num_shards:05d}-{_hex(attempt, 8)}.{suffix}"
    return f"{data_prefix(kind, run)}{name}"


def pictures_prefix(shard_id: int, attempt: str, run: str = MAIN) -> str:
    """Folder of the loose pictures of one attempt at a shard."""
    _check_shard(shard_id)
    return f"{data_prefix(PICTURES, run)}{shard_id:05d}-{_hex(attempt, 8)}/"


def index_key(shard_id: int, attempt: str, run: str = MAIN) -> str:
    """The data file of a shard of loose pictures: it names each of them."""
    return f"{pictures_prefix(shard_id, attempt, run)}{INDEX_NAME}"


def owner_key(key: str) -> str:
    """The key that a record must name for this file to be the dataset's.

    Loose pictures belong to the index of their folder, every other file to itself.
    """
    if not key.startswith(f"{PICTURES}/"):
        return key
    return f"{key.rpartition('/')[0]}/{INDEX_NAME}"


def run_of(key: str) -> str:
    """The run that a dataset file belongs to, by its key."""
    match = _RUN_FOLDER.match(key)
    return match[1] if match else MAIN


def parse_data(key: str, run: str = MAIN) -> FileName | None:
    """What a dataset file of this run is called; None for anything else.

    Files of other runs, and files that sdbatch did not name, are none of this run's. Loose
    pictures are of kind `images`, their index is of kind `data`.
    """
    folder = data_prefix(PICTURES, run)
    loose = _PICTURE.fullmatch(key.removeprefix(folder)) if key.startswith(folder) else None
    if loose:
        kind = "data" if loose[3] == INDEX_NAME else PICTURES
        return FileName(kind, int(loose[1]), None, loose[2])
    for kind in KINDS:
        folder = data_prefix(kind, run)
        match = _FILE.fullmatch(key.removeprefix(folder)) if key.startswith(folder) else None
        if match:
            return FileName(kind, int(match[1]), int(match[2]), match[3])
    return None


def _revision(number: int) -> str:
    return f".r{number}" if number else ""


def _check_shard(shard_id: int) -> None:
    if not 0 <= shard_id < MAX_SHARDS:
        raise InputError(f"shard {shard_id}: a run has at most {MAX_SHARDS:,}, split it into runs")


def _hex(text: str, digits: int) -> str:
    if not re.fullmatch(f"[0-9a-f]{{{digits}}}", text):
        raise InputError(f"{text!r} in an object key: {digits} hex digits are needed")
    return text
