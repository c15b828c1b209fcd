"""What models lie on this machine: the Hub's cache, folders of models, fetched buckets.

Nothing is opened but small files, and nobody is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from sdbatch.errors import ModelError
from sdbatch.render.families.known import KNOWN
from sdbatch.render.weights.hub import lying_hub
from sdbatch.render.weights.hub_address import HubAddress
from sdbatch.render.weights.hub_cache import assets_home, cache_home, library
from sdbatch.render.weights.model_dirs import found_models, models_dirs
from sdbatch.render.weights.model_files import INDEX
from sdbatch.render.weights.remote_model import SMALL, SOURCE

EMBEDDED, HUB, BUCKET = "embedded", "hub", "bucket"


@dataclass(frozen=True, slots=True)
class ModelHere:
    """A model on this machine.

    Attributes:
        name: What `--model` takes.
        kind: `embedded`, `hub`, `bucket`, or in a folder of models `folder`, `file`, `pickle`.
        revision: Commit or tags of what was fetched; empty for local ones.
        refs: Branches and tags that stand for the commit here.
        size_bytes: On disk; what several revisions share counts in each.
        last_used: When a file of it was last read, ISO 8601, as far as the disk notes that.
        whole: False where weights are missing.
        path: Where it lies.
    """

    name: str
    kind: str
    revision: str
    refs: tuple[str, ...]
    size_bytes: int
    last_used: str
    whole: bool
    path: str


def models_here(models_dir: str = "") -> Iterator[ModelHere]:
    """Every model of this machine that `--model` would find without asking anybody.

    Args:
        models_dir: A folder of models beside that of SDBATCH_MODELS.

    Raises:
        ModelError: It is no folder, or the Hub's library is missing.
    """
    home = Path(str(resources.files("sdbatch"))) / "models"
    for name in KNOWN:
        if (home / name).is_dir():
            yield _local(name, EMBEDDED, home / name)
    for folder in models_dirs(models_dir):
        for found in found_models(folder):
            yield _local(found.name, found.kind, found.path)
    yield from _of_the_hub()
    yield from _of_buckets()


def _local(name: str, kind: str, path: Path) -> ModelHere:
    size, used = _measured(path)
    return ModelHere(name, kind, "", (), size, used, True, str(path))


def _of_the_hub() -> Iterator[ModelHere]:
    hub = library("huggingface_hub")
    try:
        repos = hub.scan_cache_dir(cache_home()).repos
    except (hub.errors.CacheNotFound, OSError):
        return
    for repo in sorted(repos, key=lambda one: str(one.repo_id)):
        for revision in sorted(repo.revisions, key=lambda one: str(one.commit_hash)):
            folder = Path(revision.snapshot_path)
            if repo.repo_type != "model" or not (folder / INDEX).is_file():
                continue
            used = max((file.blob_last_accessed for file in revision.files), default=0.0)
            yield ModelHere(
                name=str(repo.repo_id),
                kind=HUB,
                revision=str(revision.commit_hash),
                refs=tuple(sorted(revision.refs)),
                size_bytes=int(revision.size_on_disk),
                last_used=_iso(used),
                whole=_is_whole(str(repo.repo_id), str(revision.commit_hash)),
                path=str(folder),
            )


def _is_whole(repo: str, commit: str) -> bool:
    """Whether it can be drawn with, in whichever number format its weights are."""
    for half in (False, True):
        with suppress(ModelError):
            if lying_hub(HubAddress(repo, commit), half=half) is not None:
                return True
    return False


def _of_buckets() -> Iterator[ModelHere]:
    for note in sorted((assets_home() / "remote").glob(f"*/{SOURCE}")):
        with suppress(OSError):
            url = note.read_text(encoding="utf-8")
            for folder in sorted(note.parent.iterdir()):
                revision, small, _ = folder.name.partition(SMALL)
                superseded = small and (folder.parent / revision).is_dir()
                if (folder / INDEX).is_file() and folder.name[0] != "." and not superseded:
                    size, used = _measured(folder)
                    whole = any(folder.rglob("*.safetensors"))
                    yield ModelHere(url, BUCKET, revision, (), size, used, whole, str(folder))


def _measured(path: Path) -> tuple[int, str]:
    """Bytes of a file or folder, and when any of it was last read."""
    size, used = 0, 0.0
    for file in path.rglob("*") if path.is_dir() else (path,):
        with suppress(OSError):
            status = file.stat()
            if file.is_file():
                size, used = size + status.st_size, max(used, status.st_atime)
    return size, _iso(used)


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    return moment.isoformat(timespec="seconds") if seconds else ""
