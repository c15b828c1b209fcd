"""A run that is appended to a dataset: what it takes from the run that began it.

The first run, `main`, froze the columns. Every later night is written with that very schema,
so that all of them open as one dataset; columns that a night does not have are null. All
else, model and settings included, a night says for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sdbatch.dataset.layouts import WEBDATASET
from sdbatch.dataset.schema import (
    RESERVED_COLUMNS,
    class_names,
    role_of,
    schema_from_bytes,
    user_fields,
)
from sdbatch.engine import job_folder
from sdbatch.engine.job_folder import StoredJob
from sdbatch.errors import InputError, JobError, ManifestError
from sdbatch.manifest.reader import Manifest
from sdbatch.plan.fingerprint import ADDED_LATER
from sdbatch.plan.image_settings import FORMAT
from sdbatch.plan.settings import Resolved
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.runs import appended_runs, demand_name
from sdbatch.storage.store import Store

RUN = "run"
"""Setting that names an appended run; the plan of `main` has none."""
OF_THE_DATASET = frozenset(
    [
        *("manifest.keep_source_columns", "manifest.passthrough_prefix"),
        *("format", "captions", "caption_column", "class_label", "scores", "safety"),
    ]
)
"""Settings that decide columns or files: one dataset has one of each."""
OURS = ("README.md", "preview.jpg", *(f"{kind}/" for kind in layout.FOLDERS))


@dataclass(frozen=True)
class Night:
    """Which run a call draws.

    Attributes:
        run: Its name.
        main: The plan of the run it is appended to; None for `main` itself.
    """

    run: str = layout.MAIN
    main: StoredJob | None = None

    @property
    def standing(self) -> Mapping[str, Any]:
        """Settings that stand for the whole dataset; none for `main` itself."""
        if self.main is None:
            return {}
        stands = {**ADDED_LATER, **self.main.resolved}
        held = OF_THE_DATASET
        if stands["format"] == WEBDATASET:
            held = held | {FORMAT}  # samples of one dataset have the same members
        return {key: stands[key] for key in sorted(held & stands.keys())}

    def settled(self, resolved: Resolved) -> Resolved:
        """Settings with what the dataset decides.

        Raises:
            JobError: Something explicit contradicts it.
        """
        if self.main is None:
            return resolved
        for key, was in self.standing.items():
            setting = resolved.settings.get(key)
            if setting is None or setting.value == was:
                continue
            if key in resolved.explicit:
                raise JobError(
                    f"{setting.source}: {key}: {setting.value!r}: the dataset was begun with "
                    f"{was!r}, which holds for every run of it: leave it out, or name a new folder"
                )
            resolved = resolved.with_value(key, was, "run main")
        if "." in self.run and resolved.value("format") == WEBDATASET:
            raise JobError(
                f"--append {self.run}: readers of tar files cut a picture's key at its first dot: "
                f"give the run another name, such as {self.run.replace('.', '-')}"
            )
        return resolved.with_value(RUN, self.run, "--append")

    def schema(self, store: Store, manifest: Manifest, own: pa.Schema) -> pa.Schema:
        """The schema of this run's files.

        Args:
            store: The output.
            manifest: What this run draws.
            own: What the manifest and the settings of this run would make.

        Raises:
            ManifestError: The manifest has a column that the dataset lacks, or of another type.
        """
        if self.main is None:
            return own
        frozen = schema_from_bytes(store.get(self.main.spec.schema_key))
        _demand_fitting(manifest, own, frozen)
        return frozen


def find_night(store: Store, append: str | None) -> Night:
    """The run that a call of `render` or `plan` is about.

    Args:
        store: The output.
        append: Name of an appended run; None for `main`.

    Raises:
        InputError: It cannot be appended: by its name, or since `main` is not finished.
    """
    if append is None:
        return Night()
    demand_name(store, append)
    main = job_folder.read(store, layout.MAIN)
    if main is None:
        raise InputError(
            f"{store.url}: holds no run that '{append}' could be appended to: leave out --append "
            "to begin the dataset"
        )
    if RunFolder(store).success_number() is None:
        raise InputError(
            f"{store.url}: run 'main' is not finished, nothing can be appended to it yet: see "
            f"sdbatch status {store.url}, and finish it by its own command without --append"
        )
    return Night(append, main)


def demand_no_foreign_files(store: Store, run: str) -> None:
    """Refuse an output that holds files where those of a run that has no plan yet would lie.

    Raises:
        InputError: It does.
    """
    appended = run != layout.MAIN
    names = [layout.data_prefix(kind, run) for kind in layout.FOLDERS] if appended else OURS
    for name in names:
        if store.exists_any(name):
            way = "give the run another name" if appended else "name a new or empty folder"
            raise InputError(
                f"{store.url}: holds {name.rstrip('/')} that no run of sdbatch wrote: {way}"
            )


def run_of(store: Store, run: str | None) -> str:
    """The run that a call without a manifest is about: `main`, unless another is named.

    Raises:
        InputError: No such run was ever appended.
    """
    if run is None or run == layout.MAIN:
        return layout.MAIN
    layout.state_prefix(run)
    known = appended_runs(store)
    if run not in known:
        there = ", ".join([layout.MAIN, *known])
        raise InputError(f"{store.url}: holds no run '{run}', there are: {there}")
    return run


def other_runs(store: Store, run: str | None) -> list[str]:
    """A line for a call that names no run of a dataset that has several; none otherwise."""
    others = appended_runs(store) if run is None else []
    if not others:
        return []
    return [f"note: this is about run 'main' alone; there are also {', '.join(others)} (--run)"]


def with_missing(user: pa.Table, schema: pa.Schema) -> pa.Table:
    """A shard's manifest columns, with nulls for columns of the dataset that it lacks.

    Args:
        user: Columns of the manifest.
        schema: Of `data/`.
    """
    for field in user_fields(schema):
        if field.name not in user.column_names:
            user = user.append_column(field, pa.nulls(user.num_rows, field.type))
    return user


def _demand_fitting(manifest: Manifest, own: pa.Schema, frozen: pa.Schema) -> None:
    name = manifest.ref.name
    for field in own:
        place = frozen.get_field_index(field.name)
        # Our own columns follow the version; what the dataset does not have is not written.
        if place < 0 and field.name not in RESERVED_COLUMNS:
            there = [one.name for one in user_fields(frozen)]
            if role_of(field):
                raise JobError(
                    f"column '{field.name}': run 'main' was begun without it: ask for no such "
                    "score, or name a new folder"
                )
            held = f"it has {', '.join(there)}" if there else "it has none of the manifest's own"
            raise ManifestError(
                *(name, -1, field.name, ""),
                f"no column of the dataset, which run 'main' began ({held}): leave it out of the "
                "manifest, or name a new folder",
            )
        if place < 0 or _is_empty(manifest, field.name):
            continue
        known = class_names(frozen.field(place))
        if unknown := sorted(set(class_names(field)) - set(known)):
            raise ManifestError(
                *(name, -1, field.name, unknown[0]),
                f"no class of the dataset, which has {', '.join(known)}: name a new folder",
            )
        if not field.type.equals(frozen.field(place).type):
            raise ManifestError(
                *(name, -1, field.name, str(field.type)),
                f"the dataset has it as {frozen.field(place).type}, as run 'main' began it: write "
                "it so, or name a new folder",
            )


def _is_empty(manifest: Manifest, name: str) -> bool:
    """Whether a column holds nothing, by its very type: that fits any other."""
    place = manifest.schema.get_field_index(name)
    return place >= 0 and bool(pa.types.is_null(manifest.schema.field(place).type))
