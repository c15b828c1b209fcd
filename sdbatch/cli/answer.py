"""What a command hands to machines: one line of JSON, secrets out.

Summaries and refusals quote what users wrote and what stores said, and either may hold a
password. Whatever is printed for a scheduler passes here, as lines for people pass
`redact` on their way to stderr.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from sdbatch.credentials import redacted
from sdbatch.errors import SdbatchError


def answer(body: Mapping[str, Any]) -> str:
    """The line of JSON for a summary, a report or a refusal, without secrets in its texts."""
    return json.dumps(redacted(body))


@contextmanager
def refusals(as_json: bool) -> Iterator[None]:
    """Print a refusal as JSON too where that was asked for: a scheduler reads stdout."""
    try:
        yield
    except SdbatchError as error:
        if as_json:
            click.echo(answer({"exit_code": error.exit_code, "reason": str(error)}))
        raise
