"""What a user names on the Hub: a repository, perhaps a revision, perhaps one file of it.

`org/name`, `org/name@revision` and `org/name/path/file.safetensors[@revision]`; a revision is a
branch, a tag or a commit. Pure text: nothing is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")
HALF_MARK = "+fp16"
"""Ends the revision of a model whose copy in half precision is read: other weights."""

_ADDRESS = re.compile(
    r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(?:/(?P<file>[^@\s]+\.safetensors))?"
    r"(?:@(?P<revision>[\w.][\w./~^+-]*))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A model on the Hub.

    Attributes:
        repo: `org/name`.
        revision: Branch, tag or commit; empty for `main`.
        file: A single file of weights in it; empty for a diffusers model.
    """

    repo: str
    revision: str = ""
    file: str = ""

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{file}{at}"

    @property
    def asked(self) -> str:
        """The revision that is meant."""
        return self.revision or MAIN


def hub_address(name: str) -> HubAddress | None:
    """Read a name; None where it can be none of the Hub."""
    found = _ADDRESS.fullmatch(name)
    if found is None or ".." in re.split("[/@]", name):
        return None
    return HubAddress(found["repo"], found["revision"] or "", found["file"] or "")


def commit_of(revision: str) -> str:
    """The commit in a planned revision; empty where it is of no model on the Hub."""
    commit = revision.removesuffix(HALF_MARK)
    return commit if COMMIT.fullmatch(commit) else ""
