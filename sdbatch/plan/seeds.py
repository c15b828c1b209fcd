"""Where a picture's seed comes from: its own row, never from workers, order or attempts.

A row with a `seed` draws picture k with seed + k, as diffusers' users expect. Any other row
derives its seeds from the job's seed and from what the row is: its `id`, its content and how
often that content stood before, or (unchecked manifests without ids) its position.
"""

from __future__ import annotations

import hashlib

from sdbatch.manifest.content import content_hash

__all__ = [
    "BY_CONTENT", "BY_ID", "BY_POSITION", "content_hash", "derived_seed", "reseeded", "seed_of",
]  # fmt: skip

SEED_BYTES = 4
"""Derived seeds stay below 2**32: every tool that shows a seed can take it back."""

BY_ID, BY_CONTENT, BY_POSITION = "id", "content", "row"
"""What an identity is, so that an id that looks like a hash never shares its seeds."""


def derived_seed(job_seed: int, kind: str, identity: str, occurrence: int, image_index: int) -> int:
    """The seed of one picture of a row that states none, below 2**32.

    Args:
        job_seed: From the job, 0 unless asked otherwise.
        kind: `BY_ID`, `BY_CONTENT` or `BY_POSITION`.
        identity: The id, the content hash, or the row's position as text.
        occurrence: How many equal rows precede this one; 0 for ids and positions.
        image_index: Which picture of the row, from 0.
    """
    words = f"{job_seed}\n{kind}\n{occurrence}\n{image_index}\n{identity}".encode()
    digest = hashlib.blake2b(words, digest_size=SEED_BYTES, person=b"sdbatch.seed")
    return int.from_bytes(digest.digest(), "big")


def seed_of(stated: int, image_index: int) -> int:
    """The seed of picture `image_index` of a row that states its seed."""
    return stated + image_index


def reseeded(seed: int, reseed: int) -> int:
    """Another seed for a picture whose own led nowhere, below 2**32.

    Big-endian, BLAKE2b of 4 bytes (person `sdbatch.reseed`) over both numbers in decimal with
    a line feed between: it follows from the planned seed, so asking twice gives one picture.

    Args:
        seed: The one that the plan gives it.
        reseed: Which of the other seeds; the number that `retry --reseed` was given.
    """
    words = f"{seed}\n{reseed}".encode()
    digest = hashlib.blake2b(words, digest_size=SEED_BYTES, person=b"sdbatch.reseed")
    return int.from_bytes(digest.digest(), "big")
