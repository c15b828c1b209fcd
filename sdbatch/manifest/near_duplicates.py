"""Prompts that say nearly the same, found in bounded memory by MinHash.

A prompt is the set of its words and of its pairs of neighbours. Sixteen minima over hashes
of these estimate how much two sets share; prompts that agree in one of four bands of minima
meet in a temporary file and are compared there with the first of them. The estimate is
coarse: it finds nearly all pairs that share nine tenths, and few that share half.
"""

from __future__ import annotations

import hashlib
import tempfile
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdbatch.closing import Closing
from sdbatch.errors import StorageError

MINIMA, BANDS, PARTITIONS = 16, 4, 64
ALIKE = 13
"""Minima of two prompts that must agree, about eight tenths of all words and pairs."""
PAIRS = 5
_ODD = np.uint64(0x9E3779B97F4A7C15)
_ENTRY = np.dtype([("key", "<u8"), ("row", "<i8"), ("minima", "u1", (MINIMA,))])
Hashes = NDArray[np.uint64]


class NearDuplicates(Closing):
    """Takes prompts in row order, then says which are nearly an earlier one.

    Args:
        num_rows: Rows that will be taken; one byte of memory each.
    """

    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows
        self._files: dict[int, IO[bytes]] = {}

    def close(self) -> None:
        """Let go of what is open."""
        for file in self._files.values():
            file.close()

    def add(self, prompts: pa.ChunkedArray, first_row: int) -> None:
        """Take in the prompts of some rows; those without a word are left out.

        Raises:
            StorageError: The folder for temporary files is full.
        """
        minima, places = minima_of(prompts)
        for band in range(BANDS):
            entries = np.empty(len(places), _ENTRY)
            width = MINIMA // BANDS
            entries["key"] = _mixed(minima[:, band * width : (band + 1) * width], band)
            entries["row"] = places + first_row
            entries["minima"] = (minima >> np.uint64(56)).astype(np.uint8)
            self._store(entries)

    def found(self) -> tuple[NDArray[np.bool_], list[tuple[int, int]]]:
        """A mask of rows that are nearly an earlier one, and the first pairs (earlier, row)."""
        alike = np.zeros(self._num_rows, np.bool_)
        pairs: dict[int, int] = {}
        for file in self._files.values():
            file.seek(0)
            entries = np.frombuffer(file.read(), _ENTRY)
            entries = entries[np.lexsort((entries["row"], entries["key"]))]
            fresh = np.ones(len(entries), np.bool_)
            fresh[1:] = entries["key"][1:] != entries["key"][:-1]
            place = np.arange(len(entries))
            first = np.maximum.accumulate(np.where(fresh, place, 0))
            equal = (entries["minima"] == entries["minima"][first]).sum(axis=1)
            near = ~fresh & (equal >= ALIKE)
            alike[entries["row"][near]] = True
            rows = entries["row"][near]
            for at in np.argsort(rows, kind="stable")[:PAIRS].tolist():
                pairs.setdefault(int(rows[at]), int(entries["row"][first[near][at]]))
        return alike, [(pairs[row], row) for row in sorted(pairs)[:PAIRS]]

    def _store(self, entries: NDArray[np.void]) -> None:
        target = (entries["key"] % PARTITIONS).astype(np.int64)
        order = np.argsort(target, kind="stable")
        ends = np.cumsum(np.bincount(target, minlength=PARTITIONS))
        try:
            for part, chunk in enumerate(np.split(entries[order], ends[:-1])):
                if len(chunk):
                    if part not in self._files:
                        self._files[part] = tempfile.TemporaryFile()  # noqa: SIM115  # see close
                    self._files[part].write(chunk.tobytes())
        except OSError as error:
            where = tempfile.gettempdir()
            raise StorageError(f"{where}: {error}, make room there or set TMPDIR") from error


def minima_of(prompts: pa.ChunkedArray) -> tuple[Hashes, NDArray[np.int64]]:
    """Minima `[n, MINIMA]` of the prompts that have a word, and their places."""
    counts, words = words_of(prompts)
    places = np.flatnonzero(counts)
    if not len(places):
        return np.empty((0, MINIMA), np.uint64), places
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])[places]
    hashes = _word_hashes(words)
    pairs = hashes.copy()
    pairs[:-1] = hashes[:-1] * _ODD ^ hashes[1:]
    last = np.cumsum(counts)[places] - 1
    pairs[last] = hashes[last]  # the last word has no neighbour
    minima = np.empty((len(places), MINIMA), np.uint64)
    for number in range(MINIMA):
        mixed = np.minimum(_stirred(hashes, number), _stirred(pairs, number))
        minima[:, number] = np.minimum.reduceat(mixed, starts)
    return minima, places


def words_of(prompts: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """How many words each prompt has, and all words, one after the other."""
    texts = pc.utf8_lower(pc.fill_null(prompts.cast(pa.string()), ""))
    plain = pc.utf8_trim(pc.replace_substring_regex(texts, r"[^\pL\pN]+", " "), " ")
    split = pc.split_pattern(plain, " ")
    words = pa.chunked_array([chunk.flatten() for chunk in split.chunks], pa.string())
    counts = np.asarray(pc.list_value_length(split)).astype(np.int64)
    counts[np.asarray(pc.equal(plain, ""))] = 0  # a split empty text is one empty word
    return counts, words.filter(pc.not_equal(words, "")).combine_chunks()


def _word_hashes(words: pa.Array) -> Hashes:
    coded = words.dictionary_encode()
    known = [
        int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        for word in coded.dictionary.to_pylist()
    ]
    hashes: Hashes = np.array(known, np.uint64)[coded.indices.to_numpy()]
    return hashes


def _stirred(hashes: Hashes, number: int) -> Hashes:
    """Another hash of the same words: each number is a function of its own."""
    mixed = hashes ^ np.uint64(int(_ODD) * (2 * number + 1) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)


def _mixed(band: Hashes, number: int) -> Hashes:
    key = np.full(len(band), number, np.uint64)
    for column in range(band.shape[1]):
        key = _stirred(key * _ODD ^ band[:, column], number)
    return key
