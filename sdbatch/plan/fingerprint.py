"""Fingerprints: of a plan, so that a folder never mixes two; of a request, to compare pictures.

Both are hashes of canonical JSON (sorted keys, no spaces), so they depend on values alone,
not on the order in which settings were made or on the Python that hashes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

NOT_IN_PLAN = frozenset(
    {
        "manifest",
        "output",
        "model",
        "models_dir",
        "workers.min",
        "workers.max",
        "workers.wait_s",
        "engine",
        "address",
        "checkpoint_every_s",
        "retries",
        "render.device",
        "render.memory",
        "vae",
        "render.strict_pixels",
        "failures.allow",
        "failures.stop_after",
        "license",
        "canary",
        "speculate",
        "single_driver",
        "storage",
        "scores",
        "safety",
    }
)
"""Settings that may differ between two halves of one run: names and whereabouts (what
counts are the manifest's identity and the revisions of models and scorers), and how the work
is organised."""


ADDED_LATER = {
    "captions": "",
    "render.quantize": "",
    "vae.revision": "",
    "class_label": "",
    "defaults.prompt_syntax": "plain",
    "defaults.true_cfg_scale": None,
    "defaults.micro_conditioning": None,
    "format": "parquet",
    "image.metadata": "none",
    "image.quality": None,
    "image.lossless": False,
    "image.chroma": None,
    "image.save_size": None,
    "caption_column": "",
    "manifest.keep_source_columns": False,
    "manifest.passthrough_prefix": "",
    "run": "main",
    "scorers": "",
    "filter": "",
    "best_of": None,
    "best_by": "",
    "only_new": "",
    "only_new.left_out": "",
}
"""Settings that earlier plans did not have, and what those plans meant: said of no plan that
means the same, so that a plan keeps its fingerprint."""


def plan_id(resolved: Mapping[str, Any]) -> str:
    """Fingerprint of a plan: 64 hexadecimal digits over the settings that count.

    Args:
        resolved: Dotted setting to value; those in `NOT_IN_PLAN` are passed over.
    """
    counted = {
        key: value
        for key, value in resolved.items()
        if key not in NOT_IN_PLAN and not (key in ADDED_LATER and value == ADDED_LATER[key])
    }
    return hashlib.sha256(canonical(counted)).hexdigest()


def row_hash(request: Mapping[str, Any], model_revision: str) -> str:
    """Fingerprint of one picture's resolved request: 32 hexadecimal digits.

    Args:
        request: What the model is asked, diffusers' names, the picture's seed included;
            neither id nor position nor format nor user columns belong in it.
        model_revision: Revision of the model that is asked.
    """
    return request_hash(request_text(request, model_revision)).hex()


def request_text(request: Mapping[str, Any], model_revision: str) -> bytes:
    """What is hashed of a picture's resolved request; see `row_hash`."""
    return canonical({**request, "model_revision": model_revision})


def request_hash(text: bytes) -> bytes:
    """The `row_hash` of such a text, as its 16 bytes."""
    return hashlib.blake2b(text, digest_size=16, person=b"sdbatch.request").digest()


def canonical(value: Any) -> bytes:
    """The one JSON text of a value.

    Raises:
        ValueError: It holds NaN or infinity, which no JSON reader need understand.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()
