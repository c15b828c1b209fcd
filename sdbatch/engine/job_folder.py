"""The plan as it stands in storage: written once, read by every later run.

`job.json` is created last, after the objects it names, so that whoever sees it sees all
of the plan. Two drivers may both write it; the one that loses takes what stands, or is
refused when that is another plan.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.dataset.schema import schema_bytes
from sdbatch.errors import DamagedError, PlanChangedError
from sdbatch.manifest.bad_rows import BadRows
from sdbatch.manifest.reader import open_manifest
from sdbatch.model_specs import RenderSpec, ScorerSpec, Speed, VaeSpec
from sdbatch.output_specs import ImageSpec, OutputSpec
from sdbatch.plan.fingerprint import plan_id
from sdbatch.plan.image_settings import image_spec
from sdbatch.plan.selection import Selection
from sdbatch.plan.settings import Resolved, row_defaults
from sdbatch.plan.sharding import shards_from_table, shards_table
from sdbatch.records import ColumnView, ManifestFile, ManifestRef, RowDefaults, RunSpec, Shard
from sdbatch.render.judges.scorer_facts import score_columns
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.record import KNOWN_PROTOCOLS, PROTOCOL
from sdbatch.storage.store import Store

IN_OUTPUT = "output:"
"""Begins the URL of a manifest file that lies in the output itself; a key follows."""


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A plan read back from `job.json`."""

    spec: RunSpec
    resolved: Mapping[str, Any]
    shards: Sequence[Shard]
    rows: int
    images: int
    body: Mapping[str, Any]

    @property
    def selection(self) -> Selection | None:
        """How `--only-new` chose its rows; None when nothing was compared."""
        return Selection.of(self.body.get("only_new"))

    @property
    def frozen(self) -> bool:
        """Whether the manifest lies in the output itself."""
        return any(
            file["url"].startswith(IN_OUTPUT) for file in self.body["spec"]["manifest"]["files"]
        )

    def with_manifest(self, manifest: ManifestRef) -> StoredJob:
        """The same plan over the same manifest in another place; a frozen one stays."""
        if self.frozen:
            return self
        placed = replace(self.spec.manifest, files=manifest.files)
        return replace(self, spec=replace(self.spec, manifest=placed))


@dataclass(frozen=True, slots=True)
class NewJob:
    """A plan that waits for its first worker to settle what depends on the device.

    Attributes:
        frozen: Local Parquet file to be stored as the manifest; None reads it in place.
        repeats: (row_index, occurrence) of rows equal to an earlier one; may be empty.
        bad: Rows that fail undrawn; None when there are none.
        render_env: What the first worker drew on; a later difference only warns.
        notes: What `plan` said of the manifest, among it how its columns are read.
        selection: How `--only-new` chose the rows; None when nothing was compared.
    """

    asked: Mapping[str, Any]
    resolved: Resolved
    manifest: ManifestRef
    frozen: Path | None
    repeats: pa.Table
    bad: BadRows | None
    hash_rows: bool
    render: RenderSpec
    pipeline_class: str
    render_env: str
    shards: Sequence[Shard]
    schema: pa.Schema
    rows: int
    images: int
    notes: tuple[str, ...] = ()
    selection: Selection | None = None


def create(store: Store, run: str, job: NewJob, resolved: Resolved) -> StoredJob:
    """Write a settled plan and return what stands.

    Args:
        job: With what the first worker said of its device.
        resolved: With everything settled.

    Raises:
        PlanChangedError: Another driver has just created another job here.
        StorageError: The store failed; nothing visible was created.
    """
    values = resolved.values()
    spec = RunSpec(
        plan_id=plan_id(values),
        output=store.url,
        storage={},
        run=run,
        num_shards=len(job.shards),
        manifest=_store_manifest(store, run, job),
        defaults=row_defaults(resolved),
        seed=int(values["seed"]),
        hash_rows=job.hash_rows,
        occurrences_key=_store_table(store, run, "occurrences", job.repeats),
        bad_rows_key=_store_table(store, run, "bad-rows", job.bad.cells) if job.bad else "",
        schema_key=_store_named(store, run, "schema", schema_bytes(job.schema)),
        render=job.render,
        image=image_spec(values),
        output_spec=OutputSpec(values["format"], values["captions"]),
        checkpoint_every_s=0.0,
        retries=0,
        score_columns=score_columns(job.render.scorers),
        filter=values["filter"],
        best_of=values["best_of"] or 0,
        best_by=values["best_by"],
    )
    plan_key = _store_table(store, run, "plan", shards_table(job.shards))
    body = json.dumps(_job_body(job, spec, values, plan_key), indent=1, sort_keys=True).encode()
    stored = read_body(store, json.loads(RunFolder(store, run).create_job(body)))
    if stored.spec.plan_id != spec.plan_id:
        raise PlanChangedError(store.url, tuple(_differences(stored.resolved, values)))
    return stored


def _job_body(
    job: NewJob, spec: RunSpec, values: Mapping[str, Any], plan_key: str
) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "plan_id": spec.plan_id,
        "run": spec.run,
        "asked": dict(job.asked),
        "resolved": dict(values),
        "rows": job.rows,
        "images": job.images,
        "notes": list(job.notes),
        "only_new": job.selection.to_dict() if job.selection else None,
        "pipeline_class": job.pipeline_class,
        "render_env": job.render_env,
        "num_shards": len(job.shards),
        "plan_key": plan_key,
        "schema_key": spec.schema_key,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sdbatch_version": version("sdbatch"),
        "spec": _spec_body(spec),
    }


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key in sorted(now):
        if was.get(key) != now[key]:
            yield key, str(was.get(key)), str(now[key])


def read(store: Store, run: str) -> StoredJob | None:
    """The plan that stands in the folder, or None.

    Raises:
        DamagedError: There is one, and it cannot be read.
    """
    body = RunFolder(store, run).read_job()
    return None if body is None else read_body(store, body)


def read_body(store: Store, body: Mapping[str, Any]) -> StoredJob:
    """Parse `job.json` and read the shards it names."""
    try:
        if body["protocol"] not in KNOWN_PROTOCOLS:
            raise DamagedError("job.json", f"protocol {body['protocol']} is not known here")
        # Arrow's threads may still be at work when a command that refuses its input ends at
        # once, and a process that ends then is aborted: a plan is small, one thread reads it.
        plan = io.BytesIO(store.get(body["plan_key"]))
        table = pq.ParquetFile(plan, pre_buffer=False).read(use_threads=False)
        return StoredJob(
            spec=_spec_from(body, store),
            resolved=body["resolved"],
            shards=shards_from_table(table),
            rows=body["rows"],
            images=body["images"],
            body=body,
        )
    except (KeyError, TypeError, pa.ArrowInvalid) as error:
        raise DamagedError("job.json", f"cannot be read ({error})") from error


def _store_manifest(store: Store, run: str, job: NewJob) -> ManifestRef:
    if job.frozen is None:
        return job.manifest
    with job.frozen.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    key = layout.manifest_key(run, name)
    store.put_file(key, job.frozen)
    files = open_manifest(store.join(key), store.options).ref.files
    # The key, not the place: a dataset may be moved, and nodes may mount it elsewhere.
    return replace(job.manifest, files=(replace(files[0], url=f"{IN_OUTPUT}{key}"),))


def _placed(manifest: ManifestRef, store: Store) -> ManifestRef:
    """The manifest with keys below the output turned into places."""
    files = tuple(
        replace(file, url=store.join(file.url.removeprefix(IN_OUTPUT)))
        if file.url.startswith(IN_OUTPUT)
        else file
        for file in manifest.files
    )
    return replace(manifest, files=files)


def _store_table(store: Store, run: str, kind: str, table: pa.Table) -> str:
    """Create a small Parquet object named after its content; empty for no rows."""
    if not table.num_rows and kind != "plan":
        return ""
    sink = io.BytesIO()
    # Workers read the bad rows of one shard out of many.
    together = 65536 if kind == "bad-rows" else None
    pq.write_table(table, sink, row_group_size=together, compression="zstd")
    return _store_named(store, run, kind, sink.getvalue())


def _store_named(store: Store, run: str, kind: str, data: bytes) -> str:
    """Create an object under the hash of its bytes."""
    key = layout.content_key(run, kind, hashlib.sha256(data).hexdigest()[:16])
    store.create_once(key, data)
    return key


def _spec_body(spec: RunSpec) -> dict[str, Any]:
    body = asdict(spec)
    for own in ("output", "storage", "checkpoint_every_s", "retries"):
        del body[own]  # of this machine and this call, not of the plan
    return body


def _spec_from(body: Mapping[str, Any], store: Store) -> RunSpec:
    spec = dict(body["spec"])
    manifest = spec.pop("manifest")
    files = tuple(ManifestFile(**file) for file in manifest["files"])
    view = tuple(ColumnView(**column) for column in manifest.get("view", ()))
    return RunSpec(
        output=store.url,
        storage={},
        checkpoint_every_s=60.0,
        retries=0,
        manifest=_placed(ManifestRef(manifest["name"], files, manifest["identity"], view), store),
        defaults=RowDefaults(**spec.pop("defaults")),
        render=_render_from(spec.pop("render")),
        image=ImageSpec(**spec.pop("image")),
        output_spec=OutputSpec(**spec.pop("output_spec", {})),
        score_columns=tuple(spec.pop("score_columns", ())),
        **spec,
    )


def _render_from(body: Mapping[str, Any]) -> RenderSpec:
    scorers = tuple(ScorerSpec(**scorer) for scorer in body.get("scorers", ()))
    speed = Speed(**body.get("speed", {}))
    vae = VaeSpec(**body["vae"]) if body.get("vae") else None
    return RenderSpec(**{**body, "speed": speed, "scorers": scorers, "vae": vae})
