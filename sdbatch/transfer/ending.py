"""The last files of an export: the list of single pictures, and the dataset card.

Both follow from the records of the finished files, and stand for the state that the call
ends with: until then readers see the lists of the call before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from sdbatch.dataset.card import markdown_template, size_category
from sdbatch.dataset.columns import installed_version
from sdbatch.storage.store import Store
from sdbatch.transfer.choice import base_of
from sdbatch.transfer.ledger import OutputFile
from sdbatch.transfer.outputs import FILE_NAME, rows_schema
from sdbatch.transfer.sources import Sources
from sdbatch.transfer.summary import ExportSummary
from sdbatch.transfer.table_file import TableFile
from sdbatch.transfer.terms import Terms
from sdbatch.transfer.tidying import read_rows
from sdbatch.transfer.writing import SUFFIX

CARD_KEY = "README.md"
LIST = "metadata.parquet"
NAMED = 1000
"""Files of a split that a card lists one by one; of more it gives a pattern."""


def write_ending(
    dest: Store,
    terms: Terms,
    sources: Sources,
    live: Sequence[OutputFile],
    summary: ExportSummary,
    title: str,
) -> None:
    """Write the list of pictures, where there is one, and the card."""
    endings: set[str] = set()
    if terms.pictures:
        for split in terms.splits.names:
            files = [file for file in live if file.split == split]
            endings |= write_list(dest, terms, sources, split, files)
    text = card(terms, sources, live, summary, sorted(endings), title)
    dest.put(CARD_KEY, text.encode())


def list_key(terms: Terms, split: str) -> str:
    """Where the list of a split's pictures lies: in the folder that its names begin at."""
    return f"{list_base(terms, split)}{LIST}"


def list_base(terms: Terms, split: str) -> str:
    """The folder of a split's list, below DEST; empty for DEST itself."""
    if terms.format == "files" and not terms.split:
        return ""
    return f"{base_of(terms, split)}/"


def write_list(
    dest: Store, terms: Terms, sources: Sources, split: str, files: Sequence[OutputFile]
) -> set[str]:
    """Write the rows of a split's pictures as one file; returns the endings of their names."""
    key = list_key(terms, split)
    if not files:
        dest.delete(key)
        return set()
    schema, base = rows_schema(sources.schema, terms), list_base(terms, split)
    endings: set[str] = set()
    with TemporaryDirectory(prefix="sdbatch-list-") as folder:
        with TableFile(Path(folder) / LIST, schema) as table:
            for file in files:
                for batch in read_rows(dest, file.rows.key, schema.names):
                    endings.update(pc.unique(batch.column("format")).to_pylist())
                    table.add(_from(batch, base))
            written = table.finish()
        dest.put_file(key, written.path)
    return endings


def card(
    terms: Terms,
    sources: Sources,
    live: Sequence[OutputFile],
    summary: ExportSummary,
    endings: Sequence[str],
    title: str,
) -> str:
    """The text of README.md."""
    front = front_matter(terms, live, summary.exported, endings)
    settings = {
        f"--{name.replace('_', '-')}": value
        for name, value in terms.to_body().items()
        if value not in ("", False) and name not in ("source", "seed")
    }
    return markdown_template("export_card.md.j2").render(
        front_matter=yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=100),
        title=title,
        terms=terms,
        splits={split: count for split, count in summary.splits.items() if count},
        summary=summary,
        settings=settings,
        models=_models(sources),
        created=f"{datetime.now(UTC):%Y-%m-%d}",
        version=installed_version(),
        first=next((split for split, count in summary.splits.items() if count), ""),
    )


def front_matter(
    terms: Terms, live: Sequence[OutputFile], rows: int, endings: Sequence[str]
) -> dict[str, Any]:
    """What Hugging Face reads: which files are data."""
    splits = []
    for split in terms.splits.names:
        files = [file for file in live if file.split == split]
        if any(file.rows.num_rows for file in files):
            splits.append({"split": split, "path": _paths(terms, split, files, endings)})
    configs = [{"config_name": "default", "data_files": splits, "default": True}] if splits else []
    return {
        "license": "other",
        "task_categories": ["text-to-image"],
        "tags": ["synthetic", "stable-diffusion", "sdbatch"],
        "size_categories": [size_category(rows)],
        **({"configs": configs} if configs else {}),
    }


def _paths(
    terms: Terms, split: str, files: Sequence[OutputFile], endings: Iterable[str]
) -> list[str]:
    if not terms.pictures:
        named = [file.data.key for file in files if file.data]
        # A pattern would also take what the next call has written so far: rows of a file and
        # of the one that replaces it, on the Hub for as long as an upload lasts.
        return named if len(named) <= NAMED else [f"data/{split}-*.{SUFFIX[terms.format]}"]
    base = base_of(terms, split)
    return [*(f"{base}/**/*.{ending}" for ending in endings), list_key(terms, split)]


def _from(batch: pa.RecordBatch, base: str) -> pa.RecordBatch:
    """Rows whose names begin at the list's own folder."""
    at = batch.schema.get_field_index(FILE_NAME.name)
    names = pc.utf8_slice_codeunits(batch.column(at), len(base))
    return batch.set_column(at, FILE_NAME, names)


def _models(sources: Sources) -> list[tuple[str, str, str]]:
    """(run, model, revision) of every run."""
    found = []
    for run, job in sources.jobs.items():
        resolved: Any = job.get("resolved") or {}
        found.append((run, str(resolved.get("model", "")), str(resolved.get("model.revision", ""))))
    return found
