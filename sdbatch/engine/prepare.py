"""Everything that can be decided before a worker is asked for, and everything refused.

Reads the model's facts, the manifest and what already stands in the output; writes
nothing there. Whatever is wrong with a job or a row is found here, so a run that
begins is a run that can be finished.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from sdbatch.dataset.schema import RESERVED_COLUMNS, schema_bytes
from sdbatch.engine import job_folder
from sdbatch.engine.call_render import demand_together, render_again, resolved_again
from sdbatch.engine.check_run import (
    REFUSE,
    Judging,
    check_for_run,
    failing_note,
    judging_of,
)
from sdbatch.engine.column_settings import (
    columns_notes,
    said_columns,
    shown_columns,
    with_columns,
)
from sdbatch.engine.image_choice import chosen_images
from sdbatch.engine.job_folder import NewJob, StoredJob
from sdbatch.engine.long_prompts import long_prompts_note
from sdbatch.engine.model_need import need_of
from sdbatch.engine.new_job import absolute, new_job
from sdbatch.engine.nightly import Night, demand_no_foreign_files, find_night
from sdbatch.engine.only_new import Chosen, choose_rows, with_only_new
from sdbatch.engine.output_schema import files_per_image, max_images, output_schema
from sdbatch.engine.own_folder import own_folder
from sdbatch.engine.score_settings import demand_choosable, scorer_notes, with_scores
from sdbatch.engine.unfit_settings import unfit_settings
from sdbatch.engine.vae_setting import with_vae
from sdbatch.engine.words import unknown_words_warning
from sdbatch.job import Asked
from sdbatch.manifest.bad_rows import BadRows
from sdbatch.manifest.checks import CheckReport
from sdbatch.manifest.freeze import needs_freezing, write_frozen
from sdbatch.manifest.opening import Opened, Shown, open_any, open_table
from sdbatch.manifest.prompt_syntax import MAX_CHUNKS, PLAIN
from sdbatch.manifest.reader import Manifest
from sdbatch.manifest.schema import Columns, read_columns
from sdbatch.manifest.shape import RowShape, manifest_shape
from sdbatch.manifest.unread import demand_read
from sdbatch.model_specs import RenderSpec, ScorerSpec
from sdbatch.plan.estimate import Estimate, estimate
from sdbatch.plan.facts import DRAWABLE, grouped_notes
from sdbatch.plan.image_settings import image_spec
from sdbatch.plan.resuming import resume
from sdbatch.plan.selection import Selection
from sdbatch.plan.settings import Resolved, resolve, row_defaults, speed_switches
from sdbatch.plan.sharding import cut_shards, shards_digest
from sdbatch.records import ManifestRef, ModelFacts, Shard, size_name
from sdbatch.render.families.any_pipeline import is_whole
from sdbatch.render.judges.scorer_facts import score_columns
from sdbatch.render.weights.fetched_model import Need
from sdbatch.render.weights.model_facts import find_model, scheduler_config
from sdbatch.storage.store import Store

UNCHECKED = "rows were not checked; rows without id take their seeds from their position"


@dataclass(frozen=True, slots=True)
class Source:
    """Where prompts come from: a URL, or a table in memory.

    Attributes:
        url: Manifest path or URL; empty for a table.
        table: Rows in memory.
        name: What messages call it.
    """

    url: str = ""
    table: pa.Table | None = None
    name: str = ""


@dataclass(frozen=True)
class Prepared:
    """A run, decided as far as it can be without a worker.

    Attributes:
        store: The output; None when only a plan was asked for.
        stored: The plan that stands in the output already.
        job: The new plan; None when one stands.
        notes: Lines a person should read before the run.
        expected: Bytes and files.
    """

    asked: Asked
    store: Store
    run: str
    model: ModelFacts
    resolved: Resolved
    render: RenderSpec
    sizes: tuple[tuple[int, int], ...]
    shards: Sequence[Shard]
    rows: int
    images: int
    stored: StoredJob | None
    job: NewJob | None
    notes: tuple[str, ...]
    expected: Estimate | None

    @property
    def manifest(self) -> ManifestRef:
        """The prompts."""
        if self.stored is not None:
            return self.stored.spec.manifest
        if self.job is None:
            raise ValueError("a prepared run has neither a new plan nor a standing one")
        return self.job.manifest

    @property
    def selection(self) -> Selection | None:
        """How `--only-new` chose the rows; None when nothing was compared."""
        plan = self.stored or self.job
        return plan.selection if plan else None

    @property
    def nothing_new(self) -> bool:
        """Whether every row stands already, so that there is no run to begin."""
        return self.stored is None and self.selection is not None and not self.selection.drawn

    @property
    def storage(self) -> Mapping[str, Any]:
        """Options of fsspec for manifest and output."""
        options: Mapping[str, Any] = self.asked.value("storage")
        return options


def prepare(
    asked: Asked,
    source: Source,
    store: Store,
    keep: ExitStack,
    *,
    check: bool = True,
    bad_rows: str = REFUSE,
    problems: str | Path | None = None,
    keep_source_columns: bool | None = None,
    passthrough_prefix: str | None = None,
    append: str | None = None,
    only_new: bool | str | Path = False,
) -> Prepared:
    """Decide a run.

    Args:
        asked: The checked job.
        source: Its prompts.
        store: The output; nothing is written to it.
        keep: Holds temporary files until the run is over.
        check: Read and check every row; otherwise only what cutting shards needs.
        bad_rows: Whether a row that cannot be drawn ends everything, or fails alone.
        problems: A Parquet file for everything that the check finds; None writes none.
        keep_source_columns: Columns read under another name pass through too; None leaves it
            to the plan that stands.
        passthrough_prefix: Begins the names of columns that pass through; None likewise.
        append: Name of the run that is appended to a finished dataset; None for `main`.
        only_new: Leave out rows that stand in the output (True) or in the dataset there.

    Raises:
        InputError: The job, the model, a row or the folder cannot be used as given.
        StorageError: Manifest or output cannot be reached.
    """
    demand_together(asked)
    judging = judging_of(bad_rows, problems, check)
    night = find_night(store, append)
    stored = job_folder.read(store, night.run)
    need = need_of(asked, stored)
    model = find_model(asked.value("model"), need)
    if stored is None:
        demand_no_foreign_files(store, night.run)
    said = said_columns(keep_source_columns, passthrough_prefix)
    stands = stored.resolved if stored else night.standing
    opened = _open(asked, source, keep, shown_columns(said, stands))
    manifest = opened.manifest
    columns = read_columns(manifest.ref.name, manifest.schema, RESERVED_COLUMNS)
    hash_rows = check or "id" in columns.canonical
    resolved = resolve(asked, model, manifest.ref, hash_rows=hash_rows, schedulers=DRAWABLE)
    resolved = night.settled(with_columns(resolved, said))
    resolved = chosen_images(resolved, stored.resolved if stored else {})
    resolved = with_only_new(resolved, only_new, stored.resolved if stored else None)
    resolved, scorers = with_scores(resolved, columns)
    if stored is not None:
        return _resumed(asked, store, model, resolved, stored.with_manifest(manifest.ref), need)
    return _new(asked, store, keep, model, resolved, opened, columns, judging, night, scorers)


def _new(
    asked: Asked,
    store: Store,
    keep: ExitStack,
    model: ModelFacts,
    resolved: Resolved,
    opened: Opened,
    columns: Columns,
    judging: Judging | None,
    night: Night,
    scorers: tuple[ScorerSpec, ...],
) -> Prepared:
    """A plan of its own; its rows are checked as `judging` says."""
    checked, bad = None, None
    resolved, vae = with_vae(resolved, model)
    if judging:
        checked, bad = check_for_run(asked, opened.manifest, model, resolved, judging)
    limit, storage = asked.value("limit"), asked.value("storage")
    if bad is None:
        demand_read(opened.manifest, limit)
    chosen = Chosen(opened, checked, bad, None, resolved)
    chosen = choose_rows(chosen, store, storage, limit, partial(_temp, keep))
    checked, bad, resolved = chosen.checked, chosen.bad, chosen.resolved
    manifest, frozen = chosen.opened.manifest, chosen.opened.frozen
    shape = manifest_shape(manifest, limit, row_defaults(resolved), storage, bad)
    image = image_spec(resolved.values())
    shards = cut_shards(shape, resolved.value("shards.size"), max_images(resolved), image)
    schema = output_schema(manifest, columns.user, resolved, storage, score_columns(scorers))
    schema = night.schema(store, manifest, schema)
    demand_choosable(resolved, schema)
    resolved = _with_cut(resolved, shards, schema)
    render = _render_spec(asked, model, resolved, shape, columns)
    render = replace(render, scorers=scorers, vae=vae)
    if frozen is None and needs_freezing(manifest):
        frozen = _temp(keep) / "manifest.parquet"
        write_frozen(manifest, frozen, storage=storage)
    notes = _notes(asked, model, manifest, columns, resolved, checked, bad)
    notes += [*chosen.notes, *scorer_notes(scorers)]
    prepared = Prepared(
        asked=asked,
        store=store,
        run=night.run,
        model=model,
        resolved=resolved,
        render=render,
        sizes=shape.sizes,
        shards=shards,
        rows=shape.num_rows,
        images=shape.num_images,
        stored=None,
        job=new_job(
            *(asked, model, manifest, frozen, resolved, render, shards, schema, shape, checked),
            *(bad, notes, chosen.selection),
        ),
        notes=tuple(notes),
        expected=estimate(shape, shards, image=image, files_per_image=files_per_image(resolved)),
    )
    if chosen.selection is not None and not chosen.selection.drawn:
        return replace(prepared, sizes=(), shards=(), rows=0, images=0, expected=None)
    return prepared


def _notes(
    asked: Asked,
    model: ModelFacts,
    manifest: Manifest,
    columns: Columns,
    resolved: Resolved,
    checked: CheckReport | None,
    bad: BadRows | None,
) -> list[str]:
    """Lines that a person should read before a new run."""
    storage = asked.value("storage")
    notes = [*model.notes, *columns_notes(manifest.ref.view), *columns.notes]
    if checked:
        notes += [*checked.notes, *failing_note(bad, checked)]
        notes += _grouped(model, resolved, checked)
    if not resolved.value("manifest.hash_rows"):
        notes.append(UNCHECKED)
    notes += unfit_settings(model, resolved, checked)
    notes += unknown_words_warning(model, manifest, storage)
    if checked:
        syntax = resolved.value("defaults.prompt_syntax")
        notes += long_prompts_note(model, manifest, storage, syntax)
    return list(dict.fromkeys(notes))


def _open(asked: Asked, source: Source, keep: ExitStack, shown: Shown) -> Opened:
    """The manifest, frozen where it is no Parquet."""
    new_folder = partial(_temp, keep)
    if source.table is not None:
        return open_table(source.table, source.name, new_folder, shown)
    opened = open_any(source.url, new_folder, asked.value("storage"), shown)
    manifest = opened.manifest
    files = tuple(replace(file, url=absolute(file.url)) for file in manifest.ref.files)
    return replace(opened, manifest=replace(manifest, ref=replace(manifest.ref, files=files)))


def _temp(keep: ExitStack) -> Path:
    return keep.enter_context(own_folder("sdbatch-manifest-", Path(tempfile.gettempdir())))


def _grouped(model: ModelFacts, resolved: Resolved, checked: CheckReport) -> list[str]:
    """A line for each scheduler that the rows ask for and that is no table."""
    if is_whole(model.pipeline_class):
        return []  # all rows are drawn in groups, `model.notes` says so
    usual = row_defaults(resolved)
    settings: dict[tuple[str, str], int] = {}
    for (scheduler, config), rows in checked.schedulers.items():
        setting = (scheduler or usual.scheduler, config or usual.scheduler_config)
        settings[setting] = settings.get(setting, 0) + rows
    return grouped_notes(settings, scheduler_config(model))


def _with_cut(resolved: Resolved, shards: Sequence[Shard], schema: pa.Schema) -> Resolved:
    if resolved.value("shards.size") is None:
        largest = max(shard.num_rows for shard in shards)
        resolved = resolved.with_value("shards.size", largest, "auto")
    columns = hashlib.sha256(schema_bytes(schema)).hexdigest()
    return resolved.with_value("shards.digest", shards_digest(shards), "shards.size").with_value(
        "columns", columns, "manifest"
    )


def _render_spec(
    asked: Asked,
    model: ModelFacts,
    resolved: Resolved,
    shape: RowShape,
    columns: Columns,
) -> RenderSpec:
    syntax = resolved.value("defaults.prompt_syntax")
    weighted = "prompt_syntax" in columns.canonical or syntax != PLAIN
    return RenderSpec(
        model=model.name,
        model_path=model.path,
        model_revision=model.revision,
        dtype=asked.value("render.dtype"),
        device=asked.value("render.device"),
        lanes=resolved.lanes(size_name(*size) for size in shape.sizes),
        cpu_threads=asked.value("render.cpu_threads"),
        speed=speed_switches(resolved),
        strict_pixels=asked.value("render.strict_pixels"),
        prompt_chunks=MAX_CHUNKS if weighted else 1,
        memory=asked.value("render.memory"),
        quantize=asked.value("render.quantize"),
    )


def _resumed(
    asked: Asked,
    store: Store,
    model: ModelFacts,
    resolved: Resolved,
    stored: StoredJob,
    need: Need,
) -> Prepared:
    """Go on with the plan that stands, unless something explicit contradicts it."""
    was, planned = stored.resolved, stored.spec.render
    if "model" not in resolved.explicit and was["model.revision"] != model.revision:
        model = find_model(was["model"], need)
    resolved, vae = with_vae(resolved, model)
    planned_on = f"{datetime.fromisoformat(stored.body['created_at']):%d %b}"
    resolved = resume(was, resolved, store.url, planned_on=planned_on)
    planned = replace(planned, model_path=model.path, vae=vae or planned.vae)
    render = render_again(planned, asked)
    resolved = resolved_again(resolved, render)
    sizes = tuple(
        (int(width), int(height))
        for width, _, height in (name.partition("x") for name in stored.spec.render.lanes)
    )
    return Prepared(
        asked=asked,
        store=store,
        run=stored.spec.run,
        model=model,
        resolved=resolved,
        render=render,
        sizes=sizes,
        shards=stored.shards,
        rows=stored.rows,
        images=stored.images,
        stored=stored,
        job=None,
        notes=resolved.notes,
        expected=None,
    )
