"""A dataset repository of the Hugging Face Hub: the only place that speaks to it.

The token is that of `huggingface_hub` itself (HF_TOKEN, or what `hf auth login` stored); it is
handed on to nobody and stands in no file of ours. Whatever the client raises becomes one line
that says who must act.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from sdbatch.credentials import redact
from sdbatch.errors import InputError, StorageError, StoreAccessError

T = TypeVar("T")

TRIES = 6
PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0

_ADDRESS = re.compile(
    r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./~^-]+))?/?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where on the Hub.

    Attributes:
        repo: `USER/NAME`.
        revision: A branch.
    """

    repo: str
    revision: str = "main"

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `hf://datasets/USER/NAME[@BRANCH]`.

        Raises:
            InputError: It is none.
        """
        found = _ADDRESS.fullmatch(url)
        if found is None:
            raise InputError(f"{redact(url)}: write hf://datasets/USER/NAME or .../NAME@BRANCH")
        return cls(found["repo"], found["revision"] or "main")

    def __str__(self) -> str:
        at = "" if self.revision == "main" else f"@{self.revision}"
        return f"hf://datasets/{self.repo}{at}"


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on the Hub, or one that is to be there.

    Attributes:
        sha256: Of its bytes; empty where the Hub keeps it in git itself.
        git_sha1: What git calls its bytes; empty for large files.
    """

    size_bytes: int
    sha256: str = ""
    git_sha1: str = ""


class Hub:
    """One repository.

    Args:
        note: Told when something is tried again.
        sleep: Waits between tries.

    Raises:
        InputError: `huggingface_hub` is missing, or nobody is logged in.
    """

    def __init__(
        self,
        address: Address,
        note: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            self._library = importlib.import_module("huggingface_hub")
            self._errors = importlib.import_module("huggingface_hub.errors")
        except ImportError as error:
            raise InputError(f"{address}: needs the package huggingface_hub") from error
        if not self._library.get_token():
            raise InputError(f"{address}: nobody is logged in, set HF_TOKEN or run hf auth login")
        self._api = self._library.HfApi(library_name="sdbatch")
        self.address, self._note, self._sleep = address, note, sleep
        self._where = {"repo_id": address.repo, "repo_type": "dataset"}

    def make(self, private: bool) -> None:
        """Create repository and branch unless they are there; nothing of what is there changes."""
        self._try(
            "create it",
            lambda: self._api.create_repo(**self._where, private=private, exist_ok=True),
        )
        if self.address.revision != "main":
            self._try(
                "create the branch",
                lambda: self._api.create_branch(
                    **self._where, branch=self.address.revision, exist_ok=True
                ),
            )

    def files(self) -> dict[str, Remote]:
        """Path to what stands there, of all files."""

        def look() -> dict[str, Remote]:
            tree = self._api.list_repo_tree(
                **self._where, recursive=True, revision=self.address.revision
            )
            return {entry.path: _remote(entry) for entry in tree if hasattr(entry, "blob_id")}

        return self._try("list it", look)

    def read(self, path: str) -> str:
        """A small text file."""

        def fetch() -> str:
            with TemporaryDirectory(prefix="sdbatch-hub-") as folder:
                place = self._api.hf_hub_download(
                    **self._where, filename=path, revision=self.address.revision, cache_dir=folder
                )
                return Path(place).read_text("utf-8")

        return self._try(f"read {path}", fetch)

    def commit(
        self,
        additions: Mapping[str, Path | bytes],
        deletions: Sequence[str],
        message: str,
        is_done: Callable[[], bool],
    ) -> None:
        """Add and delete files in one commit.

        Args:
            additions: Path in the repository to local file or bytes.
            deletions: Paths in the repository.
            message: Of the commit.
            is_done: Asked before a further try: a lost answer may have been a good one.

        Raises:
            StorageError: It failed for good, or too often.
        """
        add, delete = self._library.CommitOperationAdd, self._library.CommitOperationDelete
        tried = False

        def send() -> None:
            nonlocal tried
            if tried and is_done():
                return
            tried = True
            # Operations remember how far they got and serve once.
            operations = [
                *(add(path_in_repo=path, path_or_fileobj=_content(of))
                  for path, of in additions.items()),
                *(delete(path_in_repo=path) for path in deletions),
            ]  # fmt: skip
            self._api.create_commit(
                **self._where,
                operations=operations,
                commit_message=message,
                revision=self.address.revision,
            )

        self._try("commit", send)

    # ----------------------------------------------------------------------------------------

    def _try(self, doing: str, call: Callable[[], T]) -> T:
        """Call until it succeeds, fails for good, or has failed often enough."""
        pause, tries = PAUSE_S, 1
        while True:
            try:
                with self._judged(doing):
                    return call()
            except StorageError as error:
                if not error.retryable or tries == TRIES:
                    raise
                self._note(f"{error}; trying again in {pause:.0f} s")
            self._sleep(pause)
            pause, tries = min(2 * pause, LONGEST_PAUSE_S), tries + 1

    @contextmanager
    def _judged(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (InputError, StorageError):
            raise
        except self._errors.HfHubHTTPError as error:
            raise self._sorted(doing, error) from error
        except Exception as error:  # the HTTP client of the library has errors of its own
            raise StorageError(f"{self.address}: cannot {doing}: {_line(error)}") from error

    def _sorted(self, doing: str, error: Any) -> StorageError | InputError:
        status = getattr(getattr(error, "response", None), "status_code", 0)
        said = f"{self.address}: cannot {doing}: {_line(error)}"
        if status in (401, 403):
            return StoreAccessError(f"{said}; log in with a token that may write there")
        if status in (400, 404, 413, 422):
            return InputError(said)
        return StorageError(said)


def of_file(path: Path, sha256: str = "") -> Remote:
    """What the Hub would say of a local file."""
    size = path.stat().st_size
    if not sha256:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Remote(size, sha256)


def of_bytes(data: bytes) -> Remote:
    """What the Hub would say of a small text."""
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return Remote(len(data), hashlib.sha256(data).hexdigest(), git)


def is_same(wanted: Remote, there: Remote | None) -> bool:
    """Whether what stands there is what is wanted, by the hash that the Hub keeps of it."""
    if there is None or there.size_bytes != wanted.size_bytes:
        return False
    if there.sha256:
        return there.sha256 == wanted.sha256
    return bool(wanted.git_sha1) and there.git_sha1 == wanted.git_sha1


def _remote(entry: Any) -> Remote:
    large = getattr(entry, "lfs", None)
    if large is None:
        return Remote(int(entry.size), "", str(entry.blob_id))
    return Remote(
        int(entry.size), str(large["sha256"] if isinstance(large, dict) else large.sha256)
    )


def _content(of: Path | bytes) -> str | bytes:
    return of if isinstance(of, bytes) else str(of)


def _line(error: BaseException) -> str:
    return redact(" ".join(f"{type(error).__name__}: {error}".split())[:300])
