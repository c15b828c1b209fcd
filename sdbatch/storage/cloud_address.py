"""Where in which bucket a URL points.

A folder of a bucket is spelled in characters that every store, gateway and client takes as
they are: a question mark would name a version to one client and be cut off by another, a
double slash is one slash to some servers.
"""

from __future__ import annotations

import re

from sdbatch.credentials import redact
from sdbatch.errors import InputError

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_PART = re.compile(r"[A-Za-z0-9._=+ -]+")


def parse_address(url: str) -> tuple[str, str]:
    """Bucket and folder of a URL; the folder is empty or ends with a slash.

    `abfs://container@account.dfs.core.windows.net/folder` names its container first.

    Raises:
        InputError: There is no bucket, or a folder has characters that stores disagree about.
    """
    scheme, _, rest = url.partition("://")
    host, _, folder = rest.rstrip("/").partition("/")
    bucket = host.partition("@")[0]
    if not _BUCKET.fullmatch(bucket):
        raise InputError(f"{redact(url)}: name a bucket, as in {scheme}://bucket/folder")
    for part in folder.split("/") if folder else ():
        if not _PART.fullmatch(part) or part in (".", ".."):
            raise InputError(
                f"{redact(url)}: only letters, digits, spaces and '._=+-' between slashes, "
                f"not {redact(part)!r}"
            )
    return bucket, f"{folder}/" if folder else ""
