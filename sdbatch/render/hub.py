"""A model on the Hugging Face Hub becomes a folder on this machine.

What is cached is used as it lies: no question goes out, so a run does not depend on the
network once a model is there. The library is imported only when an id is asked for.
"""

from __future__ import annotations

from pathlib import Path

from sdbatch.errors import ModelError
from sdbatch.render.model_revision import PARTS

PATTERNS = ["model_index.json", *(f"{part}/*.{kind}" for part in PARTS for kind in ("json", "txt"))]
WEIGHTS = [f"{part}/*.safetensors" for part in PARTS]
VARIANTS = ["*.fp16.safetensors", "*.non_ema.safetensors"]
SCORER_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*.pth"]
NO_SCORER_FILES = [*(f"{part}/*" for part in PARTS), "*.fp16.safetensors", "*.msgpack", "v1-*"]


def snapshot(repo: str) -> Path:
    """Folder of a model's files, fetched only when they are not cached.

    Raises:
        ModelError: It cannot be had; the text says what to do.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = {"allow_patterns": PATTERNS + WEIGHTS, "ignore_patterns": VARIANTS}
    try:
        cached = Path(snapshot_download(repo, local_files_only=True, **wanted))
        if all(any((cached / part).glob("*")) for part in PARTS):
            return cached
    except LocalEntryNotFoundError:
        pass  # not cached yet
    except (OSError, ValueError) as error:
        raise ModelError(f"model {repo}: the cache cannot be read: {_line(error)}") from error
    try:
        return Path(snapshot_download(repo, **wanted))
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"model {repo}: cannot be fetched from the Hub ({_line(error)}): check the name, "
            "log in with `hf auth login` if it is gated, or give the folder of a local copy"
        ) from error


def scorer_snapshot(repo: str) -> Path:
    """Folder of the files of a model that judges pictures, fetched only when not cached.

    Raises:
        ModelError: It cannot be had; the text says what to do.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = {"allow_patterns": SCORER_FILES, "ignore_patterns": NO_SCORER_FILES}
    try:
        cached = Path(snapshot_download(repo, local_files_only=True, **wanted))
        if any(cached.rglob("*.safetensors")):
            return cached
    except LocalEntryNotFoundError:
        pass  # not cached yet
    except (OSError, ValueError) as error:
        raise ModelError(f"scorer {repo}: the cache cannot be read: {_line(error)}") from error
    try:
        return Path(snapshot_download(repo, **wanted))
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"scorer {repo}: cannot be fetched from the Hub ({_line(error)}): check the name, "
            "log in with `hf auth login` if it is gated, or give the folder of a local copy"
        ) from error


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
