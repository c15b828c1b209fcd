"""The tokenizer: byte pairs learned from the world's words, one token a word.

Every byte has a token of its own, so any text in any language becomes tokens; the words of the
world are merged whole and cost one place each of the model's `LENGTH`.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import transformers
from tokenizers import pre_tokenizers

from sdbatch.models.captions import OTHER_WORDS, UNNAMED, full_caption
from sdbatch.models.world import random_scenes

LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
_CAPTIONS, _SEED = 10_000, 5


def world_words() -> list[str]:
    """The words that the world's captions are made of, in order."""
    random = Random(_SEED)
    words = {UNNAMED}
    for scene in random_scenes(_CAPTIONS, np.random.default_rng(_SEED)).tolist():
        words.update(full_caption(scene, random).replace(",", " ").replace(".", " ").split())
    return sorted(words)


def make_tokenizer() -> Any:
    """A CLIP tokenizer for the words of the world, and for a few of others."""
    words = Counter(world_words()) + Counter(set(OTHER_WORDS))
    merges = _merges(words)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + _WORD_END for letter in letters)]
    tokens += ["".join(pair) for pair in merges]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    for special in (START, END):
        vocabulary[special] = len(vocabulary)
    made: Any = transformers.CLIPTokenizer  # its annotations know no pairs
    return made(vocab=vocabulary, merges=merges, unk_token=END, model_max_length=LENGTH)


def _merges(words: Counter[str]) -> list[tuple[str, str]]:
    """Pairs in the order in which they are merged, until every word is whole.

    Source: R. Sennrich et al., "Neural machine translation of rare words with subword units"
    (2016). Equal counts are settled by the pair itself, so the order is always the same.
    """
    spelled = {word: [*word[:-1], word[-1] + _WORD_END] for word in words}
    merges: list[tuple[str, str]] = []
    while True:
        counts: Counter[tuple[str, str]] = Counter()
        for word, parts in spelled.items():
            for pair in pairwise(parts):
                counts[pair] += words[word]
        if not counts:
            return merges
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        spelled = {word: _merged(parts, best) for word, parts in spelled.items()}


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    made: list[str] = []
    for part in parts:
        if made and (made[-1], part) == pair:
            made[-1] += part
        else:
            made.append(part)
    return made
