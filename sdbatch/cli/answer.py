"""What a command hands to machines: one line of JSON, secrets out.

Summaries and refusals quote what users wrote and what stores said, and either may hold a
password. Whatever is printed for a scheduler passes here, as lines for people pass
`redact` on their way to stderr.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sdbatch.credentials import redacted


def answer(body: Mapping[str, Any]) -> str:
    """The line of JSON for a summary, a report or a refusal, without secrets in its texts."""
    return json.dumps(redacted(body))
