"""Which form a source has, told by its name and first bytes, and how its rows are read.

A form that two programs share is never guessed: the error names `--as`.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.errors import InputError, ManifestError, StorageError
from sdbatch.manifest.importers.benchmarks import (
    compbench_rows,
    drawbench_rows,
    geneval_rows,
    partiprompts_rows,
)
from sdbatch.manifest.importers.comfyui import comfyui_rows
from sdbatch.manifest.importers.diffusiondb import diffusiondb_rows, is_part
from sdbatch.manifest.importers.infotext_rows import infotext_rows
from sdbatch.manifest.importers.kohya import kohya_rows
from sdbatch.manifest.importers.picture_text import ENDINGS
from sdbatch.manifest.importers.pictures import TASKS, PromptFrom, picture_rows, task_rows
from sdbatch.manifest.importers.prompts_from_file import prompts_from_file_rows
from sdbatch.manifest.importers.row import Row, schema_of, table_of
from sdbatch.manifest.importers.text_lines import numbered_lines, whole_text
from sdbatch.manifest.local_copy import LocalCopy, local_copy
from sdbatch.manifest.reader import Storage

READERS: Mapping[str, Callable[[str], Iterator[Row]]] = {
    "infotext": infotext_rows,
    "prompts-from-file": prompts_from_file_rows,
    "kohya": kohya_rows,
    "diffusiondb": diffusiondb_rows,
    "comfyui": comfyui_rows,
    "partiprompts": partiprompts_rows,
    "drawbench": drawbench_rows,
    "geneval": geneval_rows,
    "t2i-compbench": compbench_rows,
}
"""Form of a file to its reader."""
PICTURES = "pictures"
KINDS = (*READERS, PICTURES, *TASKS)
BATCH_ROWS = 4096
_HEAD_LINES = 200
_STEPS = re.compile(r"\s*Steps: ?\d", re.ASCII)
_KOHYA = re.compile(r"\s--(?:n|w|h|d|l|s|ss|g)\s")


@dataclass(frozen=True)
class Imported:
    """Rows of a source, read once and held on local disk until they are closed.

    Attributes:
        kind: What the source was read as.
        num_rows: How many rows there are.
        schema: Their columns.
    """

    kind: str
    num_rows: int
    schema: pa.Schema
    _spool: Path

    def __iter__(self) -> Iterator[pa.Table]:
        """All rows in order, in bounded tables."""
        with self._spool.open(encoding="utf-8") as lines:
            while batch := list(islice(lines, BATCH_ROWS)):
                yield table_of((json.loads(line) for line in batch), self.schema)


def read_source(
    source: str,
    folder: str,
    kind: str | None = None,
    prompt_from: PromptFrom | None = None,
    storage: Storage = None,
) -> Imported:
    """Read what another program wrote.

    Args:
        source: A file, or a folder of pictures; path or fsspec URL.
        folder: Local folder for rows on their way; it must outlive what is returned.
        kind: One of `KINDS`; told from the source when it is None.
        prompt_from: Where pictures have their prompts; None takes what suits the kind.
        storage: fsspec options of the source's file system.

    Raises:
        ManifestError: The source is not there, is malformed or has no rows.
        InputPictureError: A picture is broken, or says nothing.
        InputError: The kind is unknown, or cannot be told.
        StorageError: The local disk is full.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"--as {kind}: is none of {', '.join(KINDS)}")
    with local_copy(source, storage) as copy:
        return _read(copy, folder, kind, prompt_from)


def _read(
    copy: LocalCopy, folder: str, kind: str | None, prompt_from: PromptFrom | None
) -> Imported:
    source = copy.path
    if not Path(source).exists():
        raise ManifestError(source, -1, "", "", "no such file or folder")
    kind = kind or detect(source)
    rows = _rows(source, kind, prompt_from)
    names: dict[str, None] = {}
    count = 0
    try:
        descriptor, name = tempfile.mkstemp(".jsonl", dir=folder)
        with open(descriptor, "w", encoding="utf-8") as spool:
            for row in rows:
                if kind in TASKS:  # it is drawn from where it lies
                    row["image"] = copy.named(str(row["image"]))
                spool.write(json.dumps(row, ensure_ascii=False) + "\n")
                names |= dict.fromkeys(row)
                count += 1
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error}") from error
    if not count:
        raise ManifestError(source, -1, "", "", "holds no rows, a manifest needs at least one")
    return Imported(kind, count, schema_of(names), Path(name))


def detect(source: str) -> str:
    """The form of a source.

    Raises:
        InputError: It cannot be told.
    """
    path = Path(source)
    if path.is_dir() or path.suffix.lower() in ENDINGS:
        return PICTURES
    by_name = {".tsv": "partiprompts", ".csv": "drawbench", ".jsonl": "geneval"}
    suffix = path.suffix.lower()
    if suffix == ".json":
        return "diffusiondb" if is_part(whole_text(source)) else "comfyui"
    if suffix in by_name:
        return by_name[suffix]
    if suffix == ".parquet" and _is_diffusiondb(source):
        return "diffusiondb"
    lines = [] if suffix == ".parquet" else [line for _, line in _head(source)]
    if any(_STEPS.match(line) for line in lines):
        return "infotext"
    if any(line.startswith("--prompt") for line in lines):
        return "prompts-from-file"
    if any(_KOHYA.search(line) for line in lines):
        return "kohya"
    raise InputError(f"{source}: what wrote it cannot be told, name it with --as {'|'.join(KINDS)}")


def _rows(source: str, kind: str, prompt_from: PromptFrom | None) -> Iterator[Row]:
    if kind in TASKS:
        return task_rows(source, kind, prompt_from or _usual(kind))
    if kind == PICTURES or (kind in ("infotext", "comfyui") and _is_picture(source)):
        return picture_rows(source, prompt_from or "metadata")
    if prompt_from is not None:
        raise InputError(f"--prompt-from {prompt_from}: is of pictures, {source} is read as {kind}")
    if Path(source).is_dir():
        raise InputError(f"{source}: is a folder; --as {kind} reads one file")
    return READERS[kind](source)


def _usual(task: str) -> PromptFrom:
    return "metadata" if task == "image2image" else "none"


def _is_picture(source: str) -> bool:
    return Path(source).is_dir() or Path(source).suffix.lower() in ENDINGS


def _is_diffusiondb(source: str) -> bool:
    try:
        names = set(pq.read_schema(source).names)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = f"cannot be read as Parquet: {' '.join(str(error).split())[:160]}"
        raise ManifestError(source, -1, "", "", reason) from error
    return {"prompt", "sampler"} <= names or {"p", "sa"} <= names


def _head(source: str) -> Iterator[tuple[int, str]]:
    return islice(numbered_lines(source), _HEAD_LINES)
