"""A model folder in a bucket becomes a folder on this machine, fetched once.

It is known by what the store says of its files (paths, sizes, tags), so a changed one is
another revision and lies in another folder. A folder appears when it is whole: it is filled
under another name and renamed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback

from sdbatch.credentials import check_url, redact
from sdbatch.errors import InputError, ModelError, ModelUnreachableError
from sdbatch.remote import file_system
from sdbatch.render.weights.fetching import (
    Watch,
    demand_room,
    interruptible,
    one_at_a_time,
    watched,
)
from sdbatch.render.weights.hub import Fetched
from sdbatch.render.weights.hub_cache import assets_home
from sdbatch.render.weights.model_files import INDEX, Choice, choose_files, plain_name

FETCHERS = 4
MARK = "tags-"
"""Begins a revision that is made of a store's tags."""
SOURCE = "source.txt"
SMALL = ".small"
"""Ends the folder of configurations alone."""
_PART = ".part"


@dataclass(frozen=True, slots=True)
class _Bucket:
    """A folder in a bucket.

    Attributes:
        sizes: File to bytes; `tags`: file to what the store calls its content.
    """

    url: str
    fs: Any
    root: str
    sizes: Mapping[str, int]
    tags: Mapping[str, str]

    def read(self, file: str) -> bytes:
        """A small file."""
        return bytes(self.fs.cat_file(f"{self.root}/{file}"))

    def revision(self, choice: Choice) -> str:
        """Which weights and configurations these are, by what the store says of them."""
        lines = [[file, self.sizes[file], self.tags[file]] for file in sorted(choice.files)]
        return f"{MARK}{hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:40]}"


def fetch_remote(
    url: str,
    storage: Mapping[str, Any],
    *,
    revision: str = "",
    half: bool = False,
    weights: bool = True,
    watch: Watch = Watch(),  # noqa: B008  # frozen
) -> Fetched:
    """The files of a diffusers folder in a bucket, fetched only if they are not here.

    Args:
        url: Any fsspec URL of the folder.
        storage: fsspec options of it.
        revision: The planned one: no question goes out when it lies here.
        half: Prefer weights in half precision where the folder has both.
        weights: False fetches the small files alone.
        watch: Told how it goes.

    Raises:
        ModelError: It is not there, is not the planned one, or cannot be loaded safely.
    """
    check_url(url, "model")
    home = remote_home(url)
    lies = lying_remote(url, revision)
    if lies is not None:
        return lies
    with _remote_errors(url):
        bucket = _look(url, storage)
        choice = choose_files(url, bucket.sizes, _index(bucket), half)
        now = bucket.revision(choice)
    if revision and now != revision:
        raise ModelError(
            f"model {url}: has changed since the plan was made ({revision[:17]}, now {now[:17]}): "
            "bring the planned files back, or begin another output"
        )
    if (home / now).is_dir():
        return _lying(home / now)
    files, target = (choice.files, now) if weights else (choice.small, f"{now}{SMALL}")
    with _remote_errors(url):
        _bring(bucket, files, home / target, watch)
    total = sum(bucket.sizes[file] for file in choice.weights)
    return Fetched(home / target, now, total, 0 if weights else total)


def lying_remote(url: str, revision: str) -> Fetched | None:
    """A revision that was fetched; None where it was not. Nothing is asked."""
    folder = remote_home(url) / revision
    return _lying(folder) if revision and folder.is_dir() else None


def newest_remote(url: str) -> Fetched | None:
    """The revision that was fetched last; None where none was. Nothing is asked."""
    found = [path for path in remote_home(url).glob(f"{MARK}*") if path.suffix != SMALL]
    return _lying(max(found, key=lambda path: path.stat().st_mtime)) if found else None


def remote_home(url: str) -> Path:
    """Where the revisions of one URL lie on this machine."""
    key = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:12]
    name = url.rstrip("/").rpartition("/")[2]
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
    return assets_home() / "remote" / f"{safe[:60]}-{key}"


def _lying(folder: Path) -> Fetched:
    weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    return Fetched(folder, folder.name, weights)


def _look(url: str, storage: Mapping[str, Any]) -> _Bucket:
    fs, root = file_system(url, storage)
    root = root.rstrip("/")
    found = {
        path.removeprefix(root).lstrip("/"): entry
        for path, entry in fs.find(root, detail=True).items()
        if entry["type"] == "file"
    }
    if INDEX not in found:
        raise ModelError(f"model {url}: there is no {INDEX}, so no diffusers model")
    sizes = {path: int(entry["size"]) for path, entry in found.items()}
    return _Bucket(url, fs, root, sizes, {path: _tag(entry) for path, entry in found.items()})


def _tag(entry: Mapping[str, Any]) -> str:
    for name in ("ETag", "etag", "md5Hash", "content_md5", "last_modified", "mtime"):
        if entry.get(name):
            return str(entry[name]).strip('"')
    return ""


def _index(bucket: _Bucket) -> dict[str, Any]:
    try:
        content = json.loads(bucket.read(INDEX))
    except ValueError as error:
        raise ModelError(f"model {bucket.url}: {INDEX} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {bucket.url}: {INDEX} holds no JSON object")
    return content


def _bring(bucket: _Bucket, files: Sequence[str], target: Path, watch: Watch) -> None:
    """Fill a folder that nobody sees, then give it its name."""
    total = sum(bucket.sizes[file] for file in files)
    with one_at_a_time(target.parent / ".lock", watch.waiting):
        if target.is_dir():
            return
        for dead in target.parent.glob(f".{target.name}.*{_PART}"):  # whoever filled it is gone
            shutil.rmtree(dead, ignore_errors=True)
        demand_room(bucket.url, total, target.parent)
        part = Path(tempfile.mkdtemp(_PART, f".{target.name}.", target.parent))
        try:
            with watched(watch, total, lambda: _size(part)):
                stopping = threading.Event()
                interruptible(partial(_fill, bucket, files, part, stopping), stopping)
            (target.parent / SOURCE).write_text(redact(bucket.url), encoding="utf-8")
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)


class _Stoppable(Callback):  # type: ignore[misc]
    """Told of every piece of a file that arrives; ends the transfer when told."""

    def __init__(self, stopping: threading.Event) -> None:
        super().__init__()
        self._stopping = stopping

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Called by fsspec whenever the number of bytes has changed."""
        if self._stopping.is_set():
            raise InterruptedError("the fetch was stopped")


def _fill(bucket: _Bucket, files: Sequence[str], folder: Path, stopping: threading.Event) -> None:
    def fetch(file: str) -> None:
        if stopping.is_set():
            return
        place = folder / plain_name(file)
        if not place.resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"model {bucket.url}: {file} leads out of its folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        bucket.fs.get_file(f"{bucket.root}/{file}", str(place), callback=_Stoppable(stopping))
        if place.stat().st_size != bucket.sizes[file]:
            raise ModelUnreachableError(
                f"model {bucket.url}: {file}: {place.stat().st_size:,} of "
                f"{bucket.sizes[file]:,} bytes arrived"
            )

    with ThreadPoolExecutor(FETCHERS) as pool:
        for _ in pool.map(fetch, files):
            pass


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


@contextmanager
def _remote_errors(url: str) -> Iterator[None]:
    """Whatever a store's client raises, in one line."""
    try:
        yield
    except (InputError, ModelError):
        raise
    except FileNotFoundError as error:
        raise ModelError(f"model {redact(url)}: nothing is there under this URL") from error
    except PermissionError as error:
        line = redact(" ".join(str(error).split())[:160])
        raise ModelError(
            f"model {redact(url)}: may not be read with these credentials ({line})"
        ) from error
    except Exception as error:  # clients of stores share no base class
        line = redact(" ".join(f"{type(error).__name__}: {error}".split())[:160])
        raise ModelUnreachableError(f"model {redact(url)}: cannot be fetched: {line}") from error
