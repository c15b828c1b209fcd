"""The nouns of the house: read this first.

Plain frozen dataclasses that every floor may pass along, so that no floor needs to
import another for its words. They hold facts and no behaviour beyond reading them;
torch, ray, Arrow and the clock are unknown here.

A *manifest row* asks for one or more pictures. A `RenderRow` is one picture to draw,
with every setting resolved. It comes back as a `RenderedImage` or a `RowFailure`;
a *shard* is the set of manifest rows whose pictures are committed together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sdbatch.model_specs import RenderSpec
from sdbatch.output_specs import ImageSpec, OutputSpec

ImageId = tuple[int, int]
"""(row_index, image_index): what a picture is called everywhere."""


def image_key(row_index: int, image_index: int, run: str = "main") -> str:
    """`{row_index:09d}_{image_index:03d}`; pictures of an appended run carry its name before it."""
    key = f"{row_index:09d}_{image_index:03d}"
    return key if run == "main" else f"{run}-{key}"


def size_name(width_px: int, height_px: int) -> str:
    """`WxH`, the name under which a picture size stands in plans and tables."""
    return f"{width_px}x{height_px}"


ANY_SIZE = "*"
"""Stands in a table of lanes for every picture size that it does not name."""


class RowStatus(StrEnum):
    """How a planned picture ends; there is no fourth way."""

    SUCCESS = "success"
    FAILED = "failed"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One Parquet file as it stood when the plan was made.

    Attributes:
        url: Where a worker reads it.
        num_rows: Rows, from the footer.
        size_bytes: Size of the whole file.
        footer_sha256: Hash of the footer bytes; a lease carries it, a mismatch ends the run.
        etag: The store's own tag, empty on local disks.
    """

    url: str
    num_rows: int
    size_bytes: int
    footer_sha256: str
    etag: str = ""


@dataclass(frozen=True, slots=True)
class ColumnView:
    """A column of a manifest's rows, and where its values stand in the files.

    Attributes:
        name: As rows show it.
        stored: As the files have it.
        part: Which part of a stored value is meant (`manifest/aliases.py`); empty for all.
        canonical: Whether sdbatch reads it; others pass through to the dataset.
    """

    name: str
    stored: str
    part: str = ""
    canonical: bool = True


@dataclass(frozen=True, slots=True)
class ManifestRef:
    """The prompts of a run: files in a fixed order, identified by hash.

    Attributes:
        name: The manifest as the user named it, for messages.
        files: Files in row order.
        identity: Hash over names, sizes, footers and tags (or content, for tables).
        view: Columns as rows show them; empty shows them as the files have them.
    """

    name: str
    files: tuple[ManifestFile, ...]
    identity: str
    view: tuple[ColumnView, ...] = ()

    @property
    def num_rows(self) -> int:
        """Rows in all files together."""
        return sum(file.num_rows for file in self.files)


@dataclass(frozen=True, slots=True)
class Shard:
    """Manifest rows that are rendered, committed and retried as one.

    A shard lies inside the window `[first_row, end_row)`. Where all rows of a run share
    one picture size it is the whole window; otherwise it is rows `skip` to
    `skip + num_rows` of those rows of the window whose group is `group`.

    Attributes:
        shard_id: From 0; five digits in names.
        group: Picture size as `WxH`; empty when the window is not divided.
        num_rows: Manifest rows in it.
        num_images: Pictures in it; at least `num_rows`.
        cost: Estimated work, in model calls times lanes times pixels.
    """

    shard_id: int
    first_row: int
    end_row: int
    group: str
    skip: int
    num_rows: int
    num_images: int
    cost: float


@dataclass(frozen=True, slots=True)
class RowDefaults:
    """Settings for rows that do not say otherwise; diffusers' names, sizes in pixels."""

    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    scheduler_config: str
    num_images_per_prompt: int
    prompt_syntax: str = "plain"
    true_cfg_scale: float | None = None
    micro_conditioning: str | None = None


@dataclass(frozen=True, slots=True)
class RenderRow:
    """One picture to draw, every setting resolved.

    Attributes:
        row_index: Position of its row in the manifest, from 0.
        image_index: Which picture of that row, from 0.
        row_id: The manifest's `id`, or the row's content hash.
        negative_prompt: Empty string means none.
        seed: Of the initial latents and of every later draw; 0 <= seed < 2**63.
        width_px: Picture width; a multiple of the model's step.
        height_px: Picture height; likewise.
        guidance_scale: 1.0 or less turns classifier-free guidance off.
        true_cfg_scale: Classifier-free guidance of models that are told `guidance_scale` as a
            number; None for all others.
        scheduler: diffusers class name.
        scheduler_config: JSON object of overrides for `from_config`; empty for none.
        row_hash: Fingerprint of the resolved request, `plan/fingerprint.py`.
        prompt_syntax: How its prompts are read, one of `prompt_syntax.SYNTAXES`.
        micro_conditioning: JSON object of sizes that the model is told
            (`manifest/micro_conditioning.py`); empty for its own.
    """

    row_index: int
    image_index: int
    row_id: str
    prompt: str
    negative_prompt: str
    seed: int
    width_px: int
    height_px: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    scheduler_config: str = ""
    row_hash: str = ""
    prompt_syntax: str = "plain"
    true_cfg_scale: float | None = None
    micro_conditioning: str = ""

    @property
    def image_id(self) -> ImageId:
        """(row_index, image_index)."""
        return (self.row_index, self.image_index)

    @property
    def cfg_scale(self) -> float:
        """What conditional and unconditional outputs are combined with."""
        return self.guidance_scale if self.true_cfg_scale is None else self.true_cfg_scale

    @property
    def guided(self) -> bool:
        """Whether the row takes two lanes (conditional and unconditional)."""
        return self.cfg_scale > 1.0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a plan must know of a model, read from its folder without torch.

    Attributes:
        name: As the user gave it.
        path: Local folder, or `fake:...`.
        revision: Hash over its files, or the hub's commit.
        pipeline_class: From `model_index.json`.
        defaults: Settings of rows that say nothing; each has its source in `sources`.
        sources: Setting name to where its default comes from, for `plan`.
        size_multiple_px: Width and height must be multiples of this.
        num_train_timesteps: Most steps a row may ask for.
        size_bytes: Weights on disk.
        words: Words a small closed-world model was trained on; empty for open models.
        flow: It says a flow's velocity, not a noise: other schedulers draw with it.
        missing_bytes: What of the weights has yet to be fetched to this machine.
        max_size_px: The most that width and height may be; None where the model sets no limit.
    """

    name: str
    path: str
    revision: str
    pipeline_class: str
    defaults: RowDefaults
    sources: Mapping[str, str]
    size_multiple_px: int
    num_train_timesteps: int
    size_bytes: int
    words: frozenset[str]
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missing_bytes: int = 0
    flow: bool = False
    max_size_px: int | None = None


@dataclass(frozen=True, slots=True)
class Redo:
    """Which pictures of committed shards are drawn once more; all others are kept as they are.

    Attributes:
        kind: `failed`, `filtered`, or `damaged`: what the standing files no longer hold.
        error_types: Of failed pictures, only these; empty for all.
        reseed: Draw from other seeds, derived with this number; None keeps the seeds.
    """

    kind: str
    error_types: tuple[str, ...] = ()
    reseed: int | None = None


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything a worker is told about a run; plain data, below 50 KB.

    Attributes:
        plan_id: Fingerprint of all resolved decisions.
        output: URL of the dataset's root.
        storage: fsspec options without secrets.
        run: `main`, or the name of an appended run.
        num_shards: The count that stands in file names.
        seed: Job seed, from which rows without their own seed derive one.
        hash_rows: Row identity comes from content (False: from `row_index`, `--no-check`).
        occurrences_key: Object with the repeat numbers of equal rows; empty when all differ.
        schema_key: Object with the frozen Arrow schema of `data/`.
        bad_rows_key: Object with the rows that fail undrawn, and why; empty when none does.
        score_columns: What the scorers say of each picture, by column.
        filter: Condition (`dataset/where.py`) of pictures that end filtered; empty for none.
        best_of, best_by: Of so many pictures of a row, the one with most of this column is kept.
        redo: What leases of a revision above 0 draw; None in an ordinary run.
    """

    plan_id: str
    output: str
    storage: Mapping[str, Any]
    run: str
    num_shards: int
    manifest: ManifestRef
    defaults: RowDefaults
    seed: int
    hash_rows: bool
    occurrences_key: str
    schema_key: str
    render: RenderSpec
    image: ImageSpec
    checkpoint_every_s: float
    retries: int
    redo: Redo | None = None
    bad_rows_key: str = ""
    output_spec: OutputSpec = field(default_factory=OutputSpec)
    score_columns: tuple[str, ...] = ()
    filter: str = ""
    best_of: int = 0
    best_by: str = ""
