"""The check of every row, for a run and for `sdbatch manifest check`.

A row that cannot be drawn ends everything before it begins, or, where that is asked for,
becomes failed rows of the dataset: `manifest/bad_rows.py` says what is kept of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from sdbatch.dataset.schema import RESERVED_COLUMNS
from sdbatch.engine.long_prompts import long_prompts_note
from sdbatch.errors import InputError, JobError, ManifestError, ManifestRowsError
from sdbatch.job import Asked
from sdbatch.manifest.bad_rows import BadRows, bad_rows_of
from sdbatch.manifest.checks import CheckReport, check_rows
from sdbatch.manifest.fault_log import FaultLog
from sdbatch.manifest.faults import Limits
from sdbatch.manifest.input_files import InputFiles
from sdbatch.manifest.opening import reading
from sdbatch.manifest.prompt_syntax import PLAIN
from sdbatch.manifest.reader import Manifest, Storage
from sdbatch.manifest.schema import MAX_SIZE_PX, scheduler_class, scheduler_fault
from sdbatch.plan.facts import OPTIONS, schedulers_of
from sdbatch.plan.settings import Resolved, row_defaults
from sdbatch.records import ModelFacts
from sdbatch.render.weights.fetched_model import Need
from sdbatch.render.weights.model_facts import find_model
from sdbatch.storage.inputs import InputFetcher

REFUSE, FAIL = "refuse", "fail"
BAD_ROWS = (REFUSE, FAIL)
"""What becomes of rows that cannot be drawn."""


@dataclass(frozen=True, slots=True)
class Judging:
    """How a run checks its rows.

    Attributes:
        bad_rows: Whether a row that cannot be drawn ends everything, or fails alone.
        report: A Parquet file for all problems; None writes none.
    """

    bad_rows: str = REFUSE
    report: str | Path | None = None


@dataclass(frozen=True, slots=True)
class ManifestCheck:
    """What `sdbatch manifest check` found.

    Attributes:
        problems: The first of them, in row order.
        total: How many there are.
        notes: What is allowed and may still be a slip.
    """

    manifest: str
    model: str
    rows: int
    images: int
    total: int
    problems: tuple[ManifestError, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `--json` prints them."""
        problems = [
            {"row": one.row, "column": one.column, "value": one.value, "message": one.reason}
            for one in self.problems
        ]
        return {
            "manifest": self.manifest,
            "model": self.model,
            "rows": self.rows,
            "images": self.images,
            "total": self.total,
            "problems": problems,
            "notes": list(self.notes),
        }


def limits_of(
    model: ModelFacts,
    num_images_per_prompt: int = 1,
    scheduler: str = "",
    prompt_syntax: str = PLAIN,
) -> Limits:
    """What rows for this model are held to, with defaults for rows that do not say."""
    drawable, unfit = schedulers_of(model)
    return Limits(
        model=model.name,
        size_multiple_px=model.size_multiple_px,
        num_train_timesteps=model.num_train_timesteps,
        schedulers=drawable,
        unfit=unfit,
        scheduler=scheduler or model.defaults.scheduler,
        options=OPTIONS,
        reserved=RESERVED_COLUMNS,
        num_images_per_prompt=num_images_per_prompt,
        prompt_syntax=prompt_syntax,
        true_cfg=model.defaults.true_cfg_scale is not None,
        micro=model.defaults.micro_conditioning is not None,
        max_size_px=model.max_size_px or MAX_SIZE_PX,
        only={key.removeprefix("defaults."): values for key, values in model.only.items()},
    )


def demand_scheduler(name: str, model: ModelFacts) -> str:
    """The class of a scheduler that shall be the one of rows that name none.

    Raises:
        JobError: It is none, or cannot be drawn with.
    """
    reason = scheduler_fault(name, *schedulers_of(model)) if name else ""
    if reason:
        raise JobError(f"--scheduler {name}: {reason}")
    return scheduler_class(name) if name else ""


def check_manifest(
    url: str,
    *,
    model: str = "shapes",
    models_dir: str = "",
    report: str | Path | None = None,
    storage: Storage = None,
    num_images_per_prompt: int = 1,
    scheduler: str = "",
    prompt_syntax: str = PLAIN,
    limit: int | None = None,
    check_files: bool = False,
) -> ManifestCheck:
    """Check every row of a manifest against a model's limits; needs neither torch nor Ray.

    Args:
        url: Path or URL of the manifest.
        model: Name, folder, file or hub id of the model that shall draw it.
        models_dir: Where bare names are looked up before SDBATCH_MODELS.
        report: A Parquet file for all problems: file, row, column, value, message.
        storage: fsspec options of the manifest's file system.
        num_images_per_prompt: Of rows that do not say how many.
        scheduler: Of rows that name none; empty for the model's.
        prompt_syntax: Of rows that name none.
        limit: Only the first so many rows.
        check_files: Open every input file that rows point to; otherwise their folders are
            listed.

    Raises:
        InputError: Manifest or model cannot be read at all; bad rows are reported, not raised.
        StorageError: The store cannot be reached, or a disk is full.
    """
    facts = find_model(model, Need(weights=False, models_dir=models_dir))
    usual = demand_scheduler(scheduler, facts)
    limits = limits_of(facts, num_images_per_prompt, usual, prompt_syntax)
    files = InputFiles(storage, every_file=check_files, fetch=InputFetcher().fetch)
    with reading(url, storage, unread=True) as manifest:
        with ExitStack() as keep:
            log = None
            if report is not None:
                log = keep.enter_context(FaultLog(report, manifest.ref, manifest.origin))
            found = check_rows(
                manifest, limits=limits, storage=storage, log=log, limit=limit, files=files
            )
        notes = found.notes
        if not any(problem.row < 0 for problem in found.problems):
            notes += tuple(long_prompts_note(facts, manifest, storage, prompt_syntax))
    return ManifestCheck(
        *(url, model, found.num_rows, found.num_images, found.total, found.problems, notes)
    )


def judging_of(bad_rows: str, report: str | Path | None, check: bool) -> Judging | None:
    """How a run checks its rows; None when it does not.

    Raises:
        InputError: `bad_rows` is no choice, or asks for what no check finds.
    """
    if bad_rows not in BAD_ROWS:
        raise InputError(f"--bad-rows: {bad_rows!r}: use {' or '.join(BAD_ROWS)}")
    if check:
        return Judging(bad_rows, report)
    found = "found by the check: leave out --no-check"
    if bad_rows == FAIL:
        raise InputError(f"--bad-rows fail: which rows are bad is {found}")
    if report is not None:
        raise InputError(f"--report: problems are {found}")
    return None


def check_for_run(
    asked: Asked, manifest: Manifest, model: ModelFacts, resolved: Resolved, judging: Judging
) -> tuple[CheckReport, BadRows | None]:
    """Check every row of a run.

    Returns:
        The report, and the rows that shall fail; None when there are none.

    Raises:
        ManifestError: One row cannot be drawn, or a column cannot be read.
        ManifestRowsError: Several cannot.
    """
    usual = row_defaults(resolved)
    options: Mapping[str, Any] = {
        "limits": limits_of(
            model, usual.num_images_per_prompt, usual.scheduler, usual.prompt_syntax
        ),
        "storage": asked.value("storage"),
        "limit": asked.value("limit"),
    }
    if judging.report is None and judging.bad_rows == REFUSE:
        report = check_rows(manifest, **options)
    else:
        with TemporaryDirectory(prefix="sdbatch-check-") as folder:
            path = judging.report or Path(folder) / "problems.parquet"
            with FaultLog(path, manifest.ref, manifest.origin) as log:
                report = check_rows(manifest, **options, log=log)
            if judging.bad_rows == FAIL:
                problems = pq.ParquetFile(path, pre_buffer=False).read(use_threads=False)
                return report, bad_rows_of(problems) if report.total else None
    if report.total == 1:
        raise report.problems[0]
    if report.total:
        raise ManifestRowsError(report.problems, report.total)
    return report, None


def failing_note(bad: BadRows | None, report: CheckReport) -> list[str]:
    """One line for `plan` when rows will fail, with the first reason."""
    if bad is None:
        return []
    rows = "1 row" if bad.num_rows == 1 else f"{bad.num_rows:,} rows"
    return [
        f"{rows} of {report.num_rows:,} cannot be drawn and will fail (--bad-rows fail); "
        f"the first: {report.problems[0]}"
    ]
