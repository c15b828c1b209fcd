"""How long prompts are in tokens, from the files of a model's tokenizer, without torch.

A text encoder reads a fixed number of tokens; what lies beyond is cut off unseen. The count is
the tokenizer's own where its files can be read, else an estimate by words.
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
from sdbatch.render.families.table import FAMILIES, Family
from sdbatch.render.weights.single_file import model_folder

CLIP_TOKENS, CLIP_MARKS = 77, 2
"""What CLIP reads at most, and its marks of begin and end among them."""
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
    """Count the tokens of prompts; None for a model of which nobody knows how many it reads."""
    if model.path.startswith(FAKE_PREFIX):
        return None
    family = FAMILIES.get(model.pipeline_class)
    if family is None:
        return None
    with model_folder(model.path, model.name) as home:
        return _lengths(home, family, prompts)


def _lengths(home: Path, family: Family, prompts: Sequence[str]) -> PromptLengths:
    family = family.told(_json(home / family.denoiser / "config.json"))
    folder, length, marks = home / family.tokenizer, family.text_tokens, family.text_marks
    if family.tokenizer in family.optional and not folder.is_dir():
        folder, length, marks = home / "tokenizer", CLIP_TOKENS, CLIP_MARKS
    if length == CLIP_TOKENS:  # other encoders are told how many, whatever their files say
        said = _json(folder / "tokenizer_config.json").get("model_max_length")
        length = min(said or length, length)
    room = length - marks
    if family.lower_case:
        prompts = [prompt.lower().strip() for prompt in prompts]
    tokenizer = _tokenizer(folder)
    if tokenizer is None:
        counts = (round(len(_WORDS.findall(prompt)) * TOKENS_PER_WORD) for prompt in prompts)
        return PromptLengths(tuple(counts), room, exact=False)
    found = tokenizer.encode_batch(list(prompts), add_special_tokens=False)
    return PromptLengths(tuple(len(one.ids) for one in found), room, exact=True)


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
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
