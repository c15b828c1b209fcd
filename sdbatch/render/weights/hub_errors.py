"""What the Hub refuses, in one line: why, where the licence is, and what the token is worth.

The token is looked at only to say whether there is one; it stands in no message.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sdbatch.credentials import redact
from sdbatch.errors import ModelError, ModelUnreachableError
from sdbatch.render.weights.hub_address import HubAddress
from sdbatch.render.weights.hub_cache import library

_LOG_IN = "set HF_TOKEN or run `hf auth login`"
_ELSEWHERE = "fetch it where there is a network (`sdbatch models fetch`), or name a local folder"


@contextmanager
def hub_errors(address: HubAddress, what: str = "model") -> Iterator[None]:
    """Turn whatever the Hub's library raises into one line.

    Args:
        address: What is asked for.
        what: What it is called.

    Raises:
        ModelError: It cannot be had, and asking again is no help.
        ModelUnreachableError: The network or the disk failed; a later try may succeed.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # the HTTP client of the library has errors of its own
        raise _sorted(address, f"{what} {address}", error) from error


def page_of(repo: str) -> str:
    """Where people read about a model and accept its licence."""
    return f"{_endpoint()}/{repo}"


def _endpoint() -> str:
    """The Hub's address, or a mirror's; a password in it is shown to nobody."""
    return redact(f"{library('huggingface_hub.constants').ENDPOINT}/").rstrip("/")


def _sorted(address: HubAddress, said: str, error: Exception) -> ModelError:
    errors = library("huggingface_hub.errors")
    page, cause = page_of(address.repo), _cause(error, errors)
    response = getattr(cause, "response", None)
    status = getattr(response, "status_code", 0)
    if isinstance(cause, errors.GatedRepoError):
        return ModelError(
            f"{said}: gated: accept its licence at {page}, then fetch it again; "
            f"{_token_state(response)}"
        )
    if isinstance(cause, errors.RevisionNotFoundError):
        return ModelError(f"{said}: has no revision '{address.asked}': {page}/tree/main lists them")
    if isinstance(cause, errors.RemoteEntryNotFoundError):
        file = address.file or "model_index.json"
        return ModelError(f"{said}: has no {file}: {page}/tree/{address.asked} shows its files")
    if isinstance(cause, errors.RepositoryNotFoundError):
        return ModelError(
            f"{said}: not on the Hub under this name, or private: check the spelling at {page}; "
            f"{_token_state(response)}"
        )
    if status in (401, 403):
        return ModelError(f"{said}: refused by {page}: {_token_state(response)}")
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return ModelError(
            f"{said}: not whole in the cache and HF_HUB_OFFLINE forbids asking: {_ELSEWHERE}"
        )
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelUnreachableError(f"{said}: the cache's disk is full: {_line(cause)}")
    if isinstance(cause, OSError) and cause.filename is not None:  # a file's, no connection's
        return ModelUnreachableError(
            f"{said}: the cache cannot be written to ({_line(cause)}): set HF_HOME to a folder "
            "that can"
        )
    if status or not isinstance(cause, ValueError):
        reason = f"answers {status}" if status else f"cannot be reached ({_line(cause)})"
        return ModelUnreachableError(
            f"{said}: not in the cache and {_endpoint()} {reason}: {_ELSEWHERE}"
        )
    return ModelError(f"{said}: {_line(cause)}")


def _cause(error: BaseException, errors: Any) -> BaseException:
    """What lies behind an error that only says that nothing is cached either."""
    while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _token_state(response: Any) -> str:
    """What the token that was sent is worth, without a letter of it."""
    if not library("huggingface_hub").get_token():
        return f"no token is set here: {_LOG_IN}"
    said = str(getattr(response, "headers", {}).get("X-Error-Message", ""))
    if "invalid" in said.lower() or (getattr(response, "status_code", 0) == 401):
        return f"the token that is set here is not valid: {_LOG_IN}"
    return "the token that is set here has no access to it"


def _line(error: BaseException) -> str:
    return redact(" ".join(f"{type(error).__name__}: {error}".split())[:160])
