"""Secrets: named in options, resolved where a store is opened, shown nowhere.

Options of a store travel to workers, so they hold names only: `env:NAME` stands for
the environment variable NAME of whatever machine opens the store. A secret written out is
refused with that advice. `redact` is the other half: what clients put into their errors and
logs passes through it before a person, a log file or a record sees it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sdbatch.errors import InputError

ENV = "env:"
HIDDEN = "[hidden]"

_SECRET_NAME = re.compile(
    r"(?:(?<!kms)key|secret|token|passw(?:or)?d|passphrase|pass|pwd|pw|credentials?|signature"
    r"|sig|sas|connectionstring|auth|authorization|cookie|bearer|jwt)(?:value|\d+)?$"
    r"|(?<!kms)(?:key|secret|token)id$"
    r"|(?:secret|passw(?:or)?d|passphrase)(?!.*(?:file|filename|path|version)$)",
)
"""Names of options that are secrets, in small letters and digits alone: `Api-Key` is `apikey`."""
_PLAIN_WORDS = ("anon", "google_default", "cloud", "cache", "browser")
"""Ways to sign in that a token option may name: they are no secrets themselves."""

_SECRET_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_CLIENT_SECRET",
    "HF_TOKEN",
)
_SHORTEST = 8  # a shorter value would blot out innocent words

_PORT = r"(?:\[[0-9a-f:.]+\]|localhost|[^/@\s'\":]*\.[^/@\s'\":]*):\d{1,5}[/?#]"
_BEFORE_PASSWORD = rf"(://)(?:(?<!http://)(?<!https://)|(?!{_PORT}))"
"""What looks like the port of a web server is one: an @ in the path behind it is innocent."""

_OWNED = r"\b(?:https?|s3a?|gs|gcs)://"
"""Where whatever precedes an @ is a user; elsewhere it may be a container."""

_PATTERNS = (
    # Secrets hold slashes as they are: up to the last @ all of it counts as one.
    re.compile(rf"{_BEFORE_PASSWORD}[^/@\s'\"]*:[^\s'\"]+(?=@)", re.IGNORECASE),
    re.compile(rf"({_OWNED})[^/@\s'\"?#]+(?=@)", re.IGNORECASE),
    re.compile(
        r"((?:^|[?&;\s'\"])(?:sig|signature|X-Amz-(?:Signature|Credential|Security-Token)"
        r"|X-Goog-(?:Signature|Credential)|AccountKey|SharedAccessSignature|access_token"
        r"|GoogleAccessId|AWSAccessKeyId)=)[^&;\s'\"]+",
        re.IGNORECASE,
    ),
    re.compile(
        r"([\"']?(?:aws_)?(?:secret_access_key|session_token|account_key|sas_token|client_secret"
        r"|private_key|connection_string|password|secret)[\"']?\s*[:=]\s*)(?!env:)"
        r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&}\"']+)",
        re.IGNORECASE,
    ),
    re.compile(r"(\bBearer\s+|\bAWS4-HMAC-SHA256\s+|\bSharedKey\s+)\S[^\r\n'\"]*", re.IGNORECASE),
    re.compile(r"()\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(r"()\bya29\.[\w.-]+"),
    re.compile(r"()\bhf_[A-Za-z0-9]{20,}"),
    re.compile(r"()\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}"),  # a signed web token
    re.compile(
        r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*KEY-----|\Z)", re.DOTALL
    ),
    re.compile(
        r"((?:^|[?&;,\s'\"])token[\"']?\s*[:=]\s*[\"']?)(?!env:)[^\s,;&}\"']+", re.IGNORECASE
    ),
)
_SIGNED = re.compile(
    r"[?&](sig|signature|X-Amz-Signature|X-Goog-Signature|access_token)=", re.IGNORECASE
)
_USERINFO = re.compile(
    rf"{_BEFORE_PASSWORD}[^/@]*:.+@|{_OWNED}[^/@?#]*@", re.IGNORECASE | re.DOTALL
)
"""For a URL that stands alone: nothing ends it, neither a blank nor a quote."""

_resolved: set[str] = set()


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options in which a secret is written out.

    Raises:
        InputError: One is; the message names the option and never its value.
    """
    for name, value in _leaves(options):
        leaf = name.rpartition(".")[2]
        secret = bool(_SECRET_NAME.search(re.sub(r"[^a-z0-9]", "", leaf.lower())))
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int | float) and not secret:
            continue
        if not isinstance(value, str | int | float):
            raise InputError(f"storage.{name}: give text, a number or a switch, not an object")
        if isinstance(value, str) and value.startswith(ENV):
            if not value.removeprefix(ENV).isidentifier():
                raise InputError(f"storage.{name}: env: wants the name of a variable after it")
        elif secret and not _is_plain(leaf, str(value)):
            raise InputError(
                f"storage.{name}: a secret may not be written out, put it into an environment "
                f"variable on every machine and write env:NAME"
            )
        elif redact(str(value)) != value:
            raise InputError(f"storage.{name}: holds a secret, write env:NAME instead")


def check_url(url: str, what: str) -> None:
    """Refuse a URL that carries a password or a signature: it would be stored with the job.

    Raises:
        InputError: It does; the message does not repeat it.
    """
    hidden = _USERINFO.search(url)
    if hidden or _SIGNED.search(url):
        # Where a password ends nobody can tell: of such a URL nothing is shown.
        shown = f"{url.partition('://')[0]}://{HIDDEN}" if hidden else redact(url)
        raise InputError(
            f"{what} {shown}: a URL with a password or signature would be stored with the "
            "job; name it plainly and give credentials by environment variables"
        )


def resolve(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with every `env:NAME` replaced by that variable of this process.

    The values found are remembered, so that `redact` knows them by sight.

    Raises:
        InputError: A variable is not set here, or a secret is written out.
    """
    check_options(options)
    return {name: _resolved_value(name, value) for name, value in options.items()}


def redact(text: str) -> str:
    """Text in which keys, tokens, signatures and passwords are replaced by `[hidden]`."""
    known = {value for name in _SECRET_VARIABLES if (value := os.environ.get(name))}
    for value in sorted(known | _resolved, key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = text.replace(value, HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    return text


def redacted(tree: Any) -> Any:
    """Mappings, lists and texts with every text in them redacted; other values as they are."""
    if isinstance(tree, str):
        return redact(tree)
    if isinstance(tree, Mapping):
        return {name: redacted(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [redacted(value) for value in tree]
    return tree


class RedactingFilter(logging.Filter):
    """Takes secrets out of log records, tracebacks included; put it on handlers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the record's message and traceback by redacted ones; keep the record."""
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        elif isinstance(value, list | tuple):
            yield from _leaves({str(index): item for index, item in enumerate(value)},
                               f"{above}{name}.")  # fmt: skip
        else:
            yield f"{above}{name}", value


def _is_plain(leaf: str, value: str) -> bool:
    """Whether the value of an option that often is a secret is none: a word or a path."""
    return not value or (leaf == "token" and (value in _PLAIN_WORDS or value[0] in "/~"))


def _resolved_value(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {below: _resolved_value(f"{name}.{below}", item) for below, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved_value(name, item) for item in value]
    if not isinstance(value, str) or not value.startswith(ENV):
        return value
    variable = value.removeprefix(ENV)
    found = os.environ.get(variable)
    if not found:
        raise InputError(f"storage.{name}: the environment variable {variable} is not set here")
    _resolved.add(found)
    return found
