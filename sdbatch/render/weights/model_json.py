"""A JSON object of a model's folder, or one line that says why it cannot be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError


def read_json(name: str, path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder.

    Args:
        name: What messages call the model.

    Raises:
        ModelError: It cannot be read, or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name}: {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {name}: {path} holds no JSON object")
    return content
