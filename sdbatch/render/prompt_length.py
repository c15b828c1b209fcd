"""How long prompts are in tokens, from the files of a model's tokenizer, without torch.

CLIP reads a fixed number of tokens; what lies beyond is cut off unseen. The count is the
tokenizer's own where its files can be read, else an estimate by words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sdbatch.records import ModelFacts
from sdbatch.render.fake import FAKE_PREFIX

CLIP_TOKENS = 77
"""What CLIP reads at most, its two marks of begin and end included."""
MARKS = 2
TOKENS_PER_WORD = 1.35
_WORDS = re.compile(r"\w+|[^\w\s]")
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, slots=True)
class PromptLengths:
    """How long some prompts are.

    Attributes:
        tokens: Of each, without the marks of begin and end.
        room: Tokens of a prompt that the model reads.
        exact: Counted by the model's tokenizer; else estimated by words.
    """

    tokens: tuple[int, ...]
    room: int
    exact: bool

    @property
    def num_cut(self) -> int:
        """Prompts that are longer than what is read."""
        return sum(count > self.room for count in self.tokens)


def prompt_lengths(model: ModelFacts, prompts: Sequence[str]) -> PromptLengths | None:
    """Count the tokens of prompts; None for a model that reads prompts of any length."""
    if model.path.startswith(FAKE_PREFIX):
        return None
    folder = Path(model.path) / "tokenizer"
    room = min(_json(folder).get("model_max_length") or CLIP_TOKENS, CLIP_TOKENS) - MARKS
    tokenizer = _tokenizer(folder)
    if tokenizer is None:
        counts = (round(len(_WORDS.findall(prompt)) * TOKENS_PER_WORD) for prompt in prompts)
        return PromptLengths(tuple(counts), room, exact=False)
    found = tokenizer.encode_batch(list(prompts), add_special_tokens=False)
    return PromptLengths(tuple(len(one.ids) for one in found), room, exact=True)


def _json(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@lru_cache(maxsize=2)
def _tokenizer(folder: Path) -> Any:
    """The tokenizer of these files; None where they, or the library, are missing."""
    try:
        import tokenizers
    except ImportError:  # it comes with transformers, which a machine that plans may lack
        return None
    try:
        if (folder / "tokenizer.json").is_file():
            return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        return _clip(folder, tokenizers)
    except Exception:  # noqa: BLE001  # the library raises bare exceptions: an estimate is left
        return None


def _clip(folder: Path, tokenizers: Any) -> Any:
    """CLIP's tokenizer from its vocabulary and merges."""
    vocab, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
    model = tokenizers.models.BPE.from_file(
        vocab, merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>"
    )
    made = tokenizers.Tokenizer(model)
    normal, split, regex = tokenizers.normalizers, tokenizers.pre_tokenizers, tokenizers.Regex
    made.normalizer = normal.Sequence(
        [normal.NFC(), normal.Replace(regex(r"\s+"), " "), normal.Lowercase()]
    )
    made.pre_tokenizer = split.Sequence(
        [
            split.Split(regex(_PIECES), behavior="removed", invert=True),
            split.ByteLevel(add_prefix_space=False),
        ]
    )
    return made
