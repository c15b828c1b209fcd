"""The `row_hash` of every picture of a manifest, batch by batch: what `resolve_rows` gives, faster.

A request is hashed as one JSON text in which prompt and seed are all that changes from row to
row of most manifests. So the rest of that text is made once per combination of settings, by
the very function that hashes a resolved row, and cut where prompt and seed stand in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdbatch.manifest.content import DIGEST_BYTES, content_digests, id_digests
from sdbatch.manifest.schema import MAX_SEED, canonical_table
from sdbatch.plan.fingerprint import request_hash, request_text
from sdbatch.plan.rows import Resolving, hashed_request, resolve_request
from sdbatch.plan.seeds import BY_CONTENT, BY_ID, derived_seed, seed_of

_OF_THE_ROW = frozenset({"prompt", "seed", "id", "num_images_per_prompt"})
_PROMPT, _SEED = "\0", MAX_SEED
_KEPT_TEXTS = 4096
Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of some rows, one entry each.

    Attributes:
        rows: Position of its row in the manifest.
        images: Which picture of the row.
        requests: `row_hash` as two words each, shape [n, 2].
        names: What a picture keeps when settings change: a hash of its row's id, or of prompt
            and seed where rows have none; shape [n, 2].
    """

    rows: NDArray[np.int64]
    images: NDArray[np.int64]
    requests: Words
    names: Words


class RowHashes:
    """Hashes rows of one plan.

    Args:
        how: Defaults and identities. Rows without id must be known by their content.
    """

    def __init__(self, how: Resolving) -> None:
        self._how = how
        self._texts: dict[tuple[Any, ...], tuple[str, str, str]] = {}

    def pictures(self, table: pa.Table, row_indices: NDArray[np.int64]) -> Pictures:
        """Hash every picture of some rows, in row order, then picture order.

        Args:
            table: Manifest rows that can be drawn; columns that are not canonical are ignored.
            row_indices: Position of each of them in the manifest.
        """
        stated = canonical_table(table)
        columns = {name: stated.column(name).to_pylist() for name in stated.column_names}
        prompts = [prompt or "" for prompt in columns["prompt"]]
        counts = self._counts(columns, len(prompts))
        first = np.repeat(np.arange(len(prompts)), counts)
        images = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        seeds = self._seeds(table, columns, row_indices, counts)
        texts = self._settings(columns, len(prompts))
        digests, places = [], first.tolist()
        for place, seed in zip(places, seeds, strict=True):
            head, middle, tail = texts[place]
            said = f"{head}{encode_basestring(prompts[place])}{middle}{seed}{tail}"
            digests.append(request_hash(said.encode()))
        if "id" in columns:
            names = words(b"".join(id_digests(stated.column("id"))))[first]
        else:
            pairs = zip(places, seeds, strict=True)
            names = prompt_names([prompts[place] for place, _ in pairs], seeds)
        return Pictures(row_indices[first], images, words(b"".join(digests)), names)

    def _counts(self, columns: Mapping[str, Sequence[Any]], rows: int) -> NDArray[np.int64]:
        usual = self._how.defaults.num_images_per_prompt
        stated = columns.get("num_images_per_prompt")
        if stated is None:
            return np.full(rows, usual, np.int64)
        return np.array([usual if count is None else count for count in stated], np.int64)

    def _seeds(
        self,
        table: pa.Table,
        columns: Mapping[str, Sequence[Any]],
        row_indices: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> list[int]:
        """The seed of every picture."""
        stated = columns.get("seed") or [None] * len(counts)
        if None not in stated:
            each = zip(stated, counts.tolist(), strict=True)
            return [seed_of(seed, image) for seed, count in each for image in range(count)]
        kind, identities = self._identities(table, columns)
        found = []
        repeats = self._how.occurrences
        for place, (row, count) in enumerate(
            zip(row_indices.tolist(), counts.tolist(), strict=True)
        ):
            for image in range(count):
                if stated[place] is None:
                    of, again = identities[place], repeats.get(row, 0)
                    found.append(derived_seed(self._how.seed, kind, of, again, image))
                else:
                    found.append(seed_of(stated[place], image))
        return found

    def _identities(
        self, table: pa.Table, columns: Mapping[str, Sequence[Any]]
    ) -> tuple[str, Sequence[str]]:
        if "id" in columns:
            return BY_ID, [row_id or "" for row_id in columns["id"]]
        return BY_CONTENT, [digest.hex() for digest in content_digests(table)]

    def _settings(
        self, columns: Mapping[str, Sequence[Any]], rows: int
    ) -> Sequence[tuple[str, str, str]]:
        """For every row the text of its request before the prompt, up to the seed, and after it."""
        names = [name for name in columns if name not in _OF_THE_ROW]
        if not names:
            return [self._text((), ())] * rows
        return [
            self._text(tuple(names), values)
            for values in zip(*(columns[name] for name in names), strict=True)
        ]

    def _text(self, names: tuple[str, ...], values: tuple[Any, ...]) -> tuple[str, str, str]:
        known = self._texts.get((names, values))
        if known is None:
            if len(self._texts) >= _KEPT_TEXTS:
                self._texts.clear()
            row = {**dict(zip(names, values, strict=True)), "prompt": _PROMPT}
            request = hashed_request(resolve_request(row, self._how), _SEED)
            text = request_text(request, self._how.model_revision).decode()
            # Quotes inside a value are escaped, so neither key can be met anywhere else.
            head, rest = text.split(f'"prompt":{encode_basestring(_PROMPT)}')
            middle, tail = rest.split(f'"seed":{_SEED}')
            known = (f'{head}"prompt":', f'{middle}"seed":', tail)
            self._texts[names, values] = known
        return known


def prompt_names(prompts: Sequence[str], seeds: Sequence[int]) -> Words:
    """What pictures of rows without id keep when settings change, shape [n, 2]."""
    return words(b"".join(_name(*pair) for pair in zip(prompts, seeds, strict=True)))


def hex_words(hashes: pa.ChunkedArray | pa.Array) -> Words:
    """32 hexadecimal digits a row as two words each, shape [n, 2].

    Raises:
        ValueError: A row is none.
    """
    return words(bytes.fromhex("".join(hashes.to_pylist())))


def words(digests: bytes) -> Words:
    """Hashes of 16 bytes, one after the other, as two words each, shape [n, 2]."""
    return np.frombuffer(digests, "<u8").reshape(-1, DIGEST_BYTES // 8)


def _name(prompt: str, seed: int) -> bytes:
    said = f"{seed}\n{prompt}".encode()
    return hashlib.blake2b(said, digest_size=DIGEST_BYTES, person=b"sdbatch.name").digest()
