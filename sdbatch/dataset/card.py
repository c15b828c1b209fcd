"""README.md of a dataset: what is in it, how it was made, how to open it.

The YAML in front is what Hugging Face reads: which files are data, which metadata,
which errors. It is made by a YAML writer and not by the template; whatever people
wrote (prompts, model names) is escaped, so that text stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from sdbatch.dataset.layouts import FILES, WEBDATASET

_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#|~$])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class RunLine(NamedTuple):
    """A run of a dataset that has several: its name, what drew it, how its pictures ended."""

    run: str
    model: str
    model_revision: str
    success: int
    failed: int


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says.

    Attributes:
        manifest: The manifest as the user named it.
        images: Planned pictures; success, failed and filtered add up to it.
        size_bytes: Of all files in `data/`; `metadata_bytes` and `errors_bytes` likewise.
        created: Day of writing, `2026-11-22`.
        settings: Resolved setting to value, shown as a table.
        data_files: Patterns or names below the dataset's root. Patterns are exact once
            files of lost attempts are removed; otherwise name the files.
        errors_files: Empty when nothing failed: readers refuse a pattern without files.
        filtered_files: Likewise.
        preview: A picture to show, below the root; empty for none.
        license: As the Hub writes it; `other` when nobody has said.
        layout: One of those in `layouts.py`.
        captions: `txt` where each prompt stands beside its picture.
        caption_column: A column that repeats the prompt; empty for none.
        picture: Ending of picture files.
        features: Types of columns, as YAML says them, for readers that would guess them.
        runs: All runs where there are several; counts and files are then those of all.
    """

    title: str
    model: str
    model_revision: str
    pipeline_class: str
    dtype: str
    manifest: str
    plan_id: str
    sdbatch_version: str
    created: str
    images: int
    success: int
    failed: int
    filtered: int
    size_bytes: int
    metadata_bytes: int = 0
    errors_bytes: int = 0
    filtered_bytes: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    error_counts: Mapping[str, int] = field(default_factory=dict)
    data_files: tuple[str, ...] = ("data/*.parquet",)
    metadata_files: tuple[str, ...] = ("metadata/*.parquet",)
    errors_files: tuple[str, ...] = ()
    filtered_files: tuple[str, ...] = ()
    preview: str = "preview.jpg"
    license: str = "other"
    runs: tuple[RunLine, ...] = ()
    layout: str = "parquet"
    captions: str = ""
    caption_column: str = ""
    picture: str = "png"
    features: tuple[Mapping[str, Any], ...] = ()


def markdown_template(name: str) -> Template:
    """A template of this room for Markdown; its filter `text` makes any value harmless."""
    environment = Environment(
        loader=PackageLoader("sdbatch.dataset"),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown, not HTML: every value goes through `text`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["text"] = markdown_text
    return environment.get_template(name)


def write_card(facts: CardFacts) -> str:
    """The text of README.md."""
    front = yaml.safe_dump(front_matter(facts), sort_keys=False, allow_unicode=True, width=100)
    return markdown_template("card.md.j2").render(
        facts=facts,
        front_matter=front,
        settings=_shown(facts.settings),
        folder="images/" if facts.layout == FILES else "data/",
        image=facts.picture if facts.layout == WEBDATASET else "image",
        caption=facts.caption_column or ("txt" if facts.layout == WEBDATASET else "prompt"),
    )


def front_matter(facts: CardFacts) -> dict[str, Any]:
    """What stands in the YAML block, as data."""
    configs = [
        _Config("default", facts.data_files, facts.success, facts.size_bytes),
        _Config("metadata", facts.metadata_files, facts.success, facts.metadata_bytes),
        _Config("errors", facts.errors_files, facts.failed, facts.errors_bytes),
        _Config("filtered", facts.filtered_files, facts.filtered, facts.filtered_bytes),
    ]
    configs = [config for config in configs if config.files]
    return {
        "license": facts.license,
        "task_categories": ["text-to-image"],
        "tags": ["synthetic", "stable-diffusion", "sdbatch"],
        "size_categories": [size_category(facts.success)],
        "configs": [_files(config) for config in configs],
        "dataset_info": [_info(config, facts) for config in configs],
    }


def size_category(rows: int) -> str:
    """The Hub's word for a number of rows."""
    steps = max(0, len(str(rows)) - 3)
    return _SIZES[min(steps, len(_SIZES) - 1)]


def markdown_text(value: object) -> str:
    """Any value as one line of Markdown that shows it and does nothing else."""
    line = " ".join(str(value).split())
    for character, entity in _HTML.items():
        line = line.replace(character, entity)
    return _MARKDOWN.sub(r"\\\1", line)


class _Config(NamedTuple):
    name: str
    files: tuple[str, ...]
    rows: int
    size_bytes: int


def _files(config: _Config) -> dict[str, Any]:
    chosen = {"default": True} if config.name == "default" else {}
    train = {"split": "train", "path": list(config.files)}
    return {"config_name": config.name, "data_files": [train], **chosen}


def _info(config: _Config, facts: CardFacts) -> dict[str, Any]:
    # `datasets` reads the number of rows only when a number of bytes stands beside it.
    split = {"name": "train", "num_bytes": config.size_bytes, "num_examples": config.rows}
    known = config.name == "default" and facts.features
    types = {"features": [dict(one) for one in facts.features]} if known else {}
    return {"config_name": config.name, **types, "splits": [split]}


def _shown(settings: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value, default=str)
        for name, value in settings.items()
    }
