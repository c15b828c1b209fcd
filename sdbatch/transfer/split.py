"""Which rows go to which split, and in which order a shuffled export writes them.

Both follow from hashes alone: the split from that of the manifest row, so that pictures of one
prompt row never lie on both sides, the order from that of the picture's key. So a row never
changes its split, however often a dataset grows, and the order does not depend on the machine.
Shares are met as closely as chance allows: of n rows about sqrt(n) may be on the other side.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from sdbatch.errors import InputError

TRAIN = "train"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,31}")
_WHOLE = 1 << 64


@dataclass(frozen=True, slots=True)
class Splits:
    """Names of splits, and where the hashes of each end.

    Attributes:
        names: In the order given.
        ends: Of each split, the first 64-bit number that is no longer its own.
    """

    names: tuple[str, ...] = (TRAIN,)
    ends: tuple[int, ...] = (_WHOLE,)

    @classmethod
    def parse(cls, text: str | Mapping[str, float]) -> Splits:
        """Read `train=0.95,val=0.05`; empty is one split, `train`.

        Raises:
            InputError: A name or share cannot be used, or the shares are not 1 together.
        """
        shares = _shares(text)
        if not shares:
            return cls()
        names = [name for name, _ in shares]
        for name, share in shares:
            if not _NAME.fullmatch(name):
                raise InputError(f"--split {name!r}: letters, digits and '_' only, at most 32")
            if not 0 < share <= 1:
                raise InputError(f"--split {name}={share}: a share lies between 0 and 1")
        if len({name.lower() for name in names}) < len(names):
            raise InputError(
                f"--split {text}: two splits have one name, or differ in capitals alone"
            )
        total = sum((share for _, share in shares), Decimal(0))
        if abs(total - 1) > Decimal("1e-9"):
            said = " + ".join(f"{name} {share}" for name, share in shares)
            raise InputError(f"--split: {said} are {total}, shares must be 1 together")
        reached, ends = Decimal(0), []
        for _, share in shares[:-1]:
            reached += share
            ends.append(int(reached * _WHOLE))
        return cls(tuple(names), (*ends, _WHOLE))

    def of(self, key: str) -> str:
        """The split of a picture: that of its row."""
        number = _number(b"split\0", key.rpartition("_")[0])
        return next(name for name, end in zip(self.names, self.ends, strict=True) if number < end)


def shuffled_place(key: str, seed: int) -> int:
    """Where a picture stands in the random order of a seed: a number below 2**63."""
    return _number(f"shuffle {seed}\0".encode(), key) >> 1


def _number(purpose: bytes, key: str) -> int:
    return int.from_bytes(hashlib.sha256(purpose + key.encode()).digest()[:8], "big")


def _shares(text: str | Mapping[str, float]) -> list[tuple[str, Decimal]]:
    if isinstance(text, Mapping):
        return [(str(name), _share(str(name), str(share))) for name, share in text.items()]
    parts = [part.strip() for part in text.split(",") if part.strip()]
    pairs = [part.partition("=") for part in parts]
    return [(name.strip(), _share(name.strip(), share.strip())) for name, _, share in pairs]


def _share(name: str, text: str) -> Decimal:
    try:
        share = Decimal(text)
    except InvalidOperation as error:
        raise InputError(
            f"--split {name}={text}: no number, write such as train=0.95,val=0.05"
        ) from error
    if not share.is_finite():
        raise InputError(f"--split {name}={text}: a share lies between 0 and 1")
    return share
