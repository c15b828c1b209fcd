"""A word in time for newcomers: the embedded model knows few words, and says which.

A picture of a cat from a model that knows ten shapes looks like a broken program. So a
manifest whose prompts are mostly of another world gets one line before the run.
"""

from __future__ import annotations

import re

import pyarrow as pa

from sdbatch.manifest.reader import Manifest, Storage, read_rows
from sdbatch.records import ModelFacts

SAMPLE_ROWS = 512
FEW = 0.5
SHOWN = ("circle", "square", "star", "heart", "red", "blue", "striped", "small", "top left")
LITTLE_WORDS = frozenset(
    (
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "at",
        "to",
        "with",
        "and",
        "is",
        "are",
        "by",
        "for",
        "from",
    )
)
"""In every English prompt, whatever it is about."""
_WORD = re.compile(r"[^\W\d_]+")


def unknown_words_warning(model: ModelFacts, manifest: Manifest, storage: Storage) -> list[str]:
    """One line when most prompts of a sample have few words the model knows, else nothing."""
    if not model.words:
        return []
    rows = min(manifest.ref.num_rows, SAMPLE_ROWS)
    prompts = prompt_texts(read_rows(manifest.ref, 0, rows, ["prompt"], storage))
    strange = sum(known_share(prompt or "", model.words) < FEW for prompt in prompts)
    if strange * 2 <= len(prompts):
        return []
    return [
        f"warning: {strange:,} of the first {len(prompts):,} prompts have few words that model "
        f"'{model.name}' knows (such as {', '.join(SHOWN)}): for real pictures name a real model, "
        "for example --model stable-diffusion-v1-5/stable-diffusion-v1-5"
    ]


def prompt_texts(table: pa.Table) -> list[str]:
    """The prompts of rows that may be bad ones: null is empty, what is no UTF-8 is replaced."""
    raw = table["prompt"].cast(pa.string()).cast(pa.binary()).to_pylist()
    return [(text or b"").decode(errors="replace") for text in raw]


def known_share(prompt: str, words: frozenset[str]) -> float:
    """Share of a prompt's words of weight that are known; 1.0 for a prompt without any."""
    found = [word for word in _WORD.findall(prompt.lower()) if word not in LITTLE_WORDS]
    return sum(word in words for word in found) / len(found) if found else 1.0
