"""File systems of other machines, opened alike for outputs and for manifests.

Every client is given our timeouts, so that no call waits for ever, and keeps no listings,
so that what others write is seen. A file system is made where it is used and belongs to
that process: asynchronous clients do not survive a fork, and hold credentials.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fsspec

from sdbatch.credentials import RedactingFilter, check_options, check_url, resolve
from sdbatch.errors import InputError

CONNECT_S = 5.0
READ_S = 15.0

_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")


@dataclass(frozen=True, slots=True)
class Client:
    """A package that speaks to one kind of store.

    Attributes:
        module: What is imported.
        extra: What `pip install 'sdbatch[...]'` calls it.
    """

    module: str
    extra: str


_S3, _GCS, _AZURE = Client("s3fs", "s3"), Client("gcsfs", "gcs"), Client("adlfs", "azure")
CLIENTS = {
    "s3": _S3,
    "s3a": _S3,
    "gs": _GCS,
    "gcs": _GCS,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
}
"""URL scheme to the client that is needed for it."""


def scheme_of(url: str) -> str:
    """The scheme of a URL in small letters; empty for a local path."""
    match = _SCHEME.match(url)
    return match.group(1).lower() if match else ""


def is_url(text: str) -> bool:
    """Whether a text is a URL, plain or chained; a path that begins with a drive letter is none."""
    return "://" in text and _DRIVE.match(text) is None


def local_path(text: str) -> str:
    """The path that a local path or a `file://` URL means, on Windows with its drive."""
    path = text.removeprefix("file://")
    return path[1:] if path != text and _DRIVE.match(path[1:]) else path


def demand_client(url: str) -> None:
    """Import the client of a URL's scheme.

    Raises:
        InputError: It is not installed; the message holds the command that installs it.
    """
    client = CLIENTS.get(scheme_of(url))
    if client is None:
        return
    if client is _GCS:
        # Read at import: without it each instance waits a minute for a bucket's kind.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        importlib.import_module(client.module)
    except ImportError as error:
        raise InputError(
            f"{scheme_of(url)}:// needs {client.module}: pip install 'sdbatch[{client.extra}]'"
        ) from error


def file_system(
    url: str, options: Mapping[str, Any] | None = None, *, shared: bool = False
) -> tuple[Any, str]:
    """A file system for a URL, and the path within it.

    Args:
        url: Any fsspec URL or local path.
        options: fsspec options of its scheme; `env:NAME` values are resolved here. A local
            path takes none: the same options may be meant for the output.
        shared: Take one that was opened alike in this thread, rather than a new one.

    Raises:
        InputError: The client is missing, or an option holds a secret or names an
            environment variable that is not set.
    """
    check_url(url, "URL")
    check_options(options or {})
    scheme = scheme_of(url)
    if scheme in ("", "file", "local"):
        return _opened(url, {})
    resolved = resolve(options or {})
    if scheme not in CLIENTS:
        return _opened(url, resolved)
    demand_client(url)
    _quieten()
    defaults = _DEFAULTS[CLIENTS[scheme].extra](resolved)
    own = {"skip_instance_cache": not shared, "use_listings_cache": False}
    return _opened(url, {**own, **defaults, **resolved, **_merged(defaults, resolved)})


def _opened(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    fs, path = fsspec.url_to_fs(url, **options)
    return fs, str(path)


def _s3_defaults(_options: Mapping[str, Any]) -> dict[str, Any]:
    config = {
        "connect_timeout": CONNECT_S,
        "read_timeout": READ_S,
        "retries": {"mode": "standard", "total_max_attempts": 2},
        # Checksums are ours (MD5, which every such store knows); newer ones many do not.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    return {"config_kwargs": config}


def _gcs_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"requests_timeout": READ_S}
    if os.environ.get("STORAGE_EMULATOR_HOST") and "token" not in options:
        defaults["token"] = "anon"  # an emulator knows nobody, and asking Google takes long
    return defaults


def _azure_defaults(_options: Mapping[str, Any]) -> dict[str, Any]:
    return {"connection_timeout": int(CONNECT_S), "read_timeout": int(READ_S)}


_DEFAULTS = {"s3": _s3_defaults, "gcs": _gcs_defaults, "azure": _azure_defaults}


def _merged(defaults: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options over nested defaults, key by key."""
    return {
        name: {**value, **options[name]}
        for name, value in defaults.items()
        if isinstance(value, Mapping) and isinstance(options.get(name), Mapping)
    }


def _quieten() -> None:
    """Keep what clients log for their own developers off the terminal, and secrets out of it."""
    for name in ("azure", "gcsfs", "botocore", "aiobotocore", "s3fs"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.ERROR)
    last = logging.lastResort
    if last is not None and not any(isinstance(one, RedactingFilter) for one in last.filters):
        last.addFilter(RedactingFilter())
