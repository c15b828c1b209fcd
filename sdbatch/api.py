"""The doors of the house for Python: what the command line calls too.

    from sdbatch import render, plan, open_dataset, load_model

    summary = render("prompts.parquet", "out/night", num_inference_steps=20)
    model = load_model()
    for image in model.stream([{"prompt": "a red circle", "seed": 7}]):
        image.pixels                     # uint8 [H, W, 3]

Every function raises errors of `sdbatch.errors` and never ends the process. Nothing needs
a main guard, and signal handlers are set only while `render` runs in the main thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias, Unpack

from sdbatch.audit.across import stop_runs
from sdbatch.audit.finish import finish
from sdbatch.engine.bench import BenchAsk
from sdbatch.engine.bench_report import BenchReport
from sdbatch.engine.bench_run import run_bench
from sdbatch.engine.budgets import bill_for, means_of, question, room_notes
from sdbatch.engine.call_options import Options as Options
from sdbatch.engine.call_options import RenderOptions as RenderOptions
from sdbatch.engine.call_options import ReworkOptions as ReworkOptions
from sdbatch.engine.call_render import demand_drawable, demand_known
from sdbatch.engine.check_run import limits_of
from sdbatch.engine.choice import choose_engine, demand_reachable
from sdbatch.engine.ending import nothing_new
from sdbatch.engine.model_doors import fetch_model as fetch_model
from sdbatch.engine.model_doors import list_models as list_models
from sdbatch.engine.model_doors import where_model as where_model
from sdbatch.engine.model_fetch import fetch_notes, with_weights
from sdbatch.engine.model_need import HALF
from sdbatch.engine.plan_report import PlanReport, opening, report_on
from sdbatch.engine.prepare import Prepared, prepare
from sdbatch.engine.preview import ROWS, Preview, draw_preview
from sdbatch.engine.probe_rows import with_probe
from sdbatch.engine.request import layers, own_folder, refuse_unknown, run_options, source_of
from sdbatch.engine.run import Reporter, Run
from sdbatch.engine.summary import Summary
from sdbatch.engine.trace_request import trace as trace
from sdbatch.errors import InputError
from sdbatch.job import ask
from sdbatch.model_specs import RenderSpec
from sdbatch.opened import Dataset
from sdbatch.records import ANY_SIZE
from sdbatch.render.loading import load_renderer
from sdbatch.render.model import Model
from sdbatch.render.vae.vae_choice import find_vae
from sdbatch.render.weights.fetched_model import Need
from sdbatch.render.weights.model_facts import find_model
from sdbatch.report.grid import grid as grid
from sdbatch.report.make import report as report
from sdbatch.reworking import Silent
from sdbatch.reworking import repair as repair
from sdbatch.reworking import retry as retry
from sdbatch.storage.lease import StopAnswer
from sdbatch.storage.store import open_store
from sdbatch.transfer.doors import export as export
from sdbatch.transfer.doors import push as push
from sdbatch.transfer.score_door import score as score

Table: TypeAlias = str | Path | Iterable[Mapping[str, Any]] | Any
"""A path or URL, or rows in memory: dicts, Arrow, pandas, a Hugging Face dataset."""


PREPARING = (
    "check",
    "bad_rows",
    "problems",
    "keep_source_columns",
    "passthrough_prefix",
    "append",
    "only_new",
)
"""Options that decide how a manifest becomes a plan and are no job keys."""


def render(
    manifest: Table | None = None,
    out: str | Path | None = None,
    *,
    report: Reporter | None = None,
    confirm: Callable[[str], bool] | None = None,
    **options: Unpack[RenderOptions],
) -> Summary:
    """Draw a manifest into a dataset; the same call on the same output resumes.

    Args:
        manifest: Path or URL of Parquet, or rows in memory; None with `prompt` or a job file.
        out: Folder or URL of the dataset; None takes the job file's, or a folder of its own
            for `prompt`.
        report: Told how it goes; None is silent.
        confirm: Asked before a run that will take more than twelve hours; None begins it.
        options: See `RenderOptions`.

    Returns:
        What it came to; `exit_code` is 0 all done, 4 rows failed, 75 stopped early.

    Raises:
        InputError: The manifest, a row, an option or the folder cannot be used; nothing was
            written.
        StorageError: The output failed; the run is resumable.
        EngineError: No worker came up, or another driver is at work; resumable.
    """
    talk = report or Silent()
    with ExitStack() as keep:
        refuse_unknown(options, RenderOptions.__annotations__)
        means = means_of(options)
        prepare_run = _preparing(manifest, out, options, keep)
        prepared = prepare_run()
        prepared = with_weights(prepared, talk) if means.probe else prepared
        means = with_probe(prepared, means, talk.note)
        asks = question(bill_for(prepared, means))
        if asks and confirm is not None and not confirm(asks):
            raise InputError("not begun: nobody said yes (--yes begins without asking)")
        how = run_options(prepared.asked, options)
        choose_engine(how, prepared.store.private)  # refuses before anything is written
        demand_reachable(how.address)
        room = room_notes(prepared, prepared.asked.value("output") or "")
        for note in (*opening(prepared), *prepared.notes, *room):
            talk.note(note)
        if prepared.nothing_new:
            talk.note("nothing to do: every row stands already, no run was begun")
            return nothing_new(prepared)
        prepared = with_weights(prepared, talk, each_node=bool(how.address))
        run = Run(prepared, how, talk, prepare_run)
        summary = run.execute()
        if run.newly_finished:
            collect = options.get("gc", True)
            store, name = prepared.store, prepared.run
            summary = finish(store, summary, collect=collect, note=talk.note, run=name)
        elif summary.reason:
            talk.note(f"ended early: {summary.reason}; the same command resumes")
    return summary


def plan(
    manifest: Table | None = None, out: str | Path | None = None, **options: Unpack[Options]
) -> PlanReport:
    """What `render` with the same arguments would do; writes nothing, draws a probe at most.

    Raises:
        InputError: As `render` would.
    """
    with ExitStack() as keep:
        nowhere = keep.enter_context(TemporaryDirectory(prefix="sdbatch-plan-"))
        refuse_unknown(options, Options.__annotations__)
        means = means_of(options)
        prepared = _preparing(manifest, out, options, keep, instead_of_output=nowhere)()
        output = prepared.asked.value("output") or ""
        said = [*fetch_notes(prepared.model), *room_notes(prepared, output)]
        prepared = with_weights(prepared, Silent()) if means.probe else prepared
        means = with_probe(prepared, means, said.append)
        return report_on(prepared, output, bill_for(prepared, means), said, means.probed)


def preview(
    manifest: Table | None = None,
    *,
    rows: int = ROWS,
    out: str | Path = "sheet.png",
    report: Reporter | None = None,
    **options: Unpack[Options],
) -> Preview:
    """Draw a few rows, spread over a manifest, onto one sheet; the output is not touched.

    Args:
        manifest: As `render` takes it.
        rows: How many rows.
        out: Local file for the sheet, a PNG.
        report: Told how it goes; None is silent.
        options: See `Options`.

    Raises:
        InputError: As `render` would.
        StorageError: The sheet cannot be written.
    """
    with ExitStack() as keep:
        nowhere = keep.enter_context(TemporaryDirectory(prefix="sdbatch-preview-"))
        refuse_unknown(options, Options.__annotations__)
        means = means_of(options)
        prepared = _preparing(manifest, nowhere, options, keep)()
        prepared = with_weights(prepared, report or Silent())
        return draw_preview(prepared, means, rows, Path(out), (report or Silent()).note)


def load_model(
    name: str = "shapes",
    *,
    dtype: str = "auto",
    batch_size: int | None = None,
    cpu_threads: int = 1,
    models_dir: str = "",
    device: str = "auto",
    vae: str = "",
    memory: str = "auto",
    quantize: str = "",
) -> Model:
    """Load a model into this process, for pictures without files and without Ray.

    Args:
        name: Model name, folder, file or hub id.
        dtype: Number type of the model.
        batch_size: Lanes of a pass, for every picture size; None chooses by device.
        cpu_threads: Threads on a CPU. Equal settings give equal pixels.
        models_dir: Where bare names are looked up before SDBATCH_MODELS.
        device: `auto`, `cuda`, `mps`, `xpu` or `cpu`.
        vae: Another autoencoder: folder, file or hub id; empty for the model's own.
        memory: `resident`, `rooms`, `offload`, or `auto` for the first that fits.
        quantize: `int8`, `nf4`, or empty for matrices as they are.

    Raises:
        ModelError: The model cannot be found or drawn with.
        InputError: There is no such device here, or no such way of holding a model.
    """
    demand_known(memory, quantize)
    facts = find_model(name, Need(half=dtype in HALF, models_dir=models_dir))
    demand_drawable(facts, memory, quantize, vae)
    spec = RenderSpec(
        name, facts.path, facts.revision, dtype, {ANY_SIZE: batch_size} if batch_size else {},
        cpu_threads, device=device, vae=find_vae(vae, facts), memory=memory, quantize=quantize,
    )  # fmt: skip
    return Model(facts, load_renderer(spec, ()), limits_of(facts), spec.weights_revision)


def bench(
    *,
    model: str | None = None,
    arch: str | None = None,
    random_weights: bool = False,
    rows: int | None = None,
    num_inference_steps: int | None = None,
    size: str | None = None,
    batch_size: int | Literal["auto"] | None = None,
    dtype: str = "auto",
    rounds: int = 3,
    mix: bool = False,
    compare: str | None = None,
    models_dir: str | None = None,
    device: str = "auto",
    memory: str = "auto",
    report: Reporter | None = None,
) -> BenchReport:
    """Measure a model on this machine: in this process, without Ray and without files.

    Args:
        model: Model name, folder or hub id; `shapes` where nothing is named.
        arch: A published architecture instead (`sd15`, `sd21`, `sdxl`, `shapes`).
        random_weights: Make the weights of `arch` up: nothing is downloaded.
        rows: Pictures of a run; None fills the lanes a few times.
        mix: Also draw rows of unlike scheduler, steps and guidance.
        compare: `diffusers` draws the same rows with its own pipeline, in turn with ours.
        models_dir: Where bare names are looked up before SDBATCH_MODELS.
        device: `auto`, `cuda`, `mps`, `xpu` or `cpu`.
        memory: How the model is held, as in `load_model`.
        report: Told how it goes; None is silent.

    Raises:
        InputError: The options cannot be met, or the device has no memory for it.
        RenderError: A row failed.
    """
    ask = BenchAsk(
        model, arch, random_weights, rows, num_inference_steps, size, batch_size, dtype, rounds,
        mix, compare, models_dir, device, memory,
    )  # fmt: skip
    return run_bench(ask, (report or Silent()).note)


def open_dataset(url: str | Path) -> Dataset:
    """A rendered dataset, or one that is being rendered; needs neither torch nor Ray."""
    return Dataset(open_store(url))


def stop(out: str | Path, *, run: str | None = None) -> StopAnswer:
    """Ask the driver that works on a dataset, wherever it runs, to end in order.

    It looks every few seconds, stores what is in flight and exits 75; `status` shows it.

    Args:
        out: Folder or URL of the dataset.
        run: Only the driver of this run; None asks those of all runs that are at work.

    Raises:
        InputError: There is no run in this folder.
        StorageError: The output cannot be read or written.
    """
    return stop_runs(open_store(out), run)


def positionals(
    manifest: str | None, out: str | None, prompt: Sequence[str]
) -> tuple[str | None, str | None]:
    """What the command line's one or two places mean: with prompts the only one is OUT.

    Raises:
        InputError: There is a manifest beside prompts.
    """
    if not prompt:
        return manifest, out
    if manifest and out:
        raise InputError(f"{manifest}: give either a manifest or --prompt, not both")
    return None, manifest or out


def _preparing(
    manifest: Table | None,
    out: str | Path | None,
    options: Mapping[str, Any],
    keep: ExitStack,
    instead_of_output: str = "",
) -> Callable[[], Prepared]:
    """What decides the run, as often as it is called: the prompts are taken in once."""
    asked = ask(layers(manifest, out, options))
    source = source_of(manifest, options.get("prompt"), asked)
    folder = asked.value("output") or instead_of_output or own_folder(source, asked)
    if not os.fsdecode(str(folder)).isprintable():
        raise InputError(f"output {str(folder)!a}: name it in readable text")
    store = open_store(folder, asked.value("storage"))
    how = {name: options[name] for name in PREPARING if name in options}
    return partial(prepare, asked, source, store, keep, **how)
