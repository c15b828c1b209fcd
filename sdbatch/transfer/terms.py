"""What an export was asked for: settled once for a DEST, and the same in every later call.

The first call writes its terms down. A later call may say nothing and goes on with them, or
repeat them; what differs is refused, because half a dataset by other terms is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sdbatch.errors import InputError, PlanChangedError
from sdbatch.transfer.split import Splits

FORMATS = ("parquet", "webdataset", "files", "imagefolder")
PICTURE_FORMATS = ("files", "imagefolder")
"""Those that hold one file for each picture."""
CAPTIONS = ("txt",)

DEFAULT_SHARD_MB = 256
MAX_SHARD_MB = 20_000
"""The Hub advises files below 20 GB."""


@dataclass(frozen=True, slots=True)
class Terms:
    """All that decides which rows an export holds and what its files are called.

    Attributes:
        source: Plan of the dataset that is exported; another one is another export.
        format: One of `FORMATS`.
        where: Condition on columns; empty for all rows.
        folder_by: Column whose values are folders; empty for none.
        name: Template of file names; empty for the key.
        captions: `txt` writes the prompt beside each picture; empty for none.
        shuffle: Rows stand in random order.
        seed: Of that order.
        split: Shares of splits by name; empty for `train` alone.
        latest: Of rows that stand in several runs only those of the newest.
    """

    source: str = ""
    format: str = "parquet"
    where: str = ""
    folder_by: str = ""
    name: str = ""
    captions: str = ""
    shuffle: bool = False
    seed: int = 0
    split: str = ""
    latest: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be met.

        Raises:
            InputError: Two terms do not go together, or one is unknown.
        """
        if self.format not in FORMATS:
            raise InputError(f"--format {self.format}: one of {', '.join(FORMATS)}")
        if self.captions not in ("", *CAPTIONS):
            raise InputError(f"--captions {self.captions}: only txt is known")
        if self.folder_by and self.format not in PICTURE_FORMATS:
            raise InputError(
                f"--folder-by: {self.format} has no folders of pictures, use --format files or "
                "imagefolder"
            )
        for flag, value in (("--name", self.name), ("--captions", self.captions)):
            if value and self.format == "parquet":
                raise InputError(f"{flag}: parquet has no file for each picture, drop it")
        Splits.parse(self.split)

    @property
    def splits(self) -> Splits:
        """The splits as they are drawn."""
        return Splits.parse(self.split)

    @property
    def pictures(self) -> bool:
        """Whether each picture is a file of its own."""
        return self.format in PICTURE_FORMATS

    def to_body(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def settle(dest: str, said: Mapping[str, Any], standing: Mapping[str, Any] | None) -> Terms:
    """The terms of a call.

    Args:
        dest: For messages.
        said: What this call says; None stands for nothing said.
        standing: What the first call wrote down; None when this is the first.

    Raises:
        InputError: What is said cannot be met.
        PlanChangedError: It differs from what stands.
    """
    given = {name: value for name, value in said.items() if value is not None}
    if isinstance(given.get("split"), Mapping):
        given["split"] = ",".join(f"{name}={share}" for name, share in given["split"].items())
    if standing is None:
        return Terms(**given)
    known = {field.name for field in fields(Terms)}
    terms = Terms(**{name: value for name, value in standing.items() if name in known})
    now = Terms(**{**terms.to_body(), **given})
    changes = tuple(
        (_shown_name(name), _shown(value), _shown(now.to_body()[name]))
        for name, value in terms.to_body().items()
        if value != now.to_body()[name] and not _is_same(name, terms, now)
    )
    if changes:
        raise PlanChangedError(dest, changes)
    return terms


def _is_same(name: str, was: Terms, now: Terms) -> bool:
    return name == "split" and was.splits == now.splits


def _shown_name(name: str) -> str:
    return "dataset" if name == "source" else f"--{name.replace('_', '-')}"


def _shown(value: object) -> str:
    return "nothing" if value == "" or value is False else str(value)
