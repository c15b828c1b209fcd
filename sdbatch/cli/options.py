"""Flags of `render` and `plan`; each stands for a job key or an API parameter.

Every flag's parameter has the name that `sdbatch.api.RenderOptions` gives it, and diffusers'
long name works beside the short one. Help shows them in groups, as people look for them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from sdbatch.engine.check_run import BAD_ROWS
from sdbatch.errors import ManifestError
from sdbatch.job import (
    CAPTIONS,
    CHROMAS,
    DEVICES,
    DTYPES,
    ENGINES,
    FORMATS,
    IMAGE_FORMATS,
    MEMORY,
    PICTURE_METADATA,
    PROMPT_SYNTAXES,
    QUANTIZE,
)

F = TypeVar("F", bound=Callable[..., Any])


GROUPS = ("Pictures", "Model and device", "Workers", "Limits", "Job and output", "Options")


class Flag(click.Option):
    """An option that belongs to a group of the help page."""

    def __init__(self, *args: Any, group: str = "Options", **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help page shows its options group by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a group, in the order of `GROUPS`."""
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if row is not None:
                rows[param.group if isinstance(param, Flag) else "Options"].append(row)
        for group, found in rows.items():
            if found:
                with formatter.section(group):
                    formatter.write_dl(found)


class NumberOrAuto(click.ParamType[int | str]):
    """A whole number from 1, or `auto`."""

    name = "N|auto"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Return the number or `auto`."""
        if value == "auto" or (isinstance(value, int) and value >= 1):
            return value
        text = str(value)
        if text.isdigit() and int(text) >= 1:
            return int(text)
        self.fail(f"{text!r} is neither a whole number from 1 nor 'auto'", param, ctx)


class WorkerRange(click.ParamType[int | str]):
    """A whole number from 1, `MIN:MAX`, or `auto`; the job checks it."""

    name = "N|MIN:MAX|auto"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,  # noqa: ARG002  # click's signature
        ctx: click.Context | None,  # noqa: ARG002
    ) -> int | str:
        """Return the number, or the text."""
        text = str(value)
        return int(text) if text.isdigit() else text


class OnlyNew(click.ParamType[bool | str]):
    """A dataset to compare with, or nothing for the output itself."""

    name = "DATASET"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,  # noqa: ARG002  # click's signature
        ctx: click.Context | None,  # noqa: ARG002
    ) -> bool | str:
        """Return True, or the place of the dataset."""
        return True if value is True else str(value)


AUTO: dict[str, Any] = {"type": NumberOrAuto(), "metavar": "N|auto"}

PICTURES: dict[str, Any] = {"cls": Flag, "group": "Pictures"}
MODEL: dict[str, Any] = {"cls": Flag, "group": "Model and device"}
WORKERS: dict[str, Any] = {"cls": Flag, "group": "Workers"}
LIMITS: dict[str, Any] = {"cls": Flag, "group": "Limits"}
JOB: dict[str, Any] = {"cls": Flag, "group": "Job and output"}
OFF: dict[str, Any] = {"is_flag": True, "flag_value": False, "default": True}

MODELS_DIR_HELP = "Look names up in this folder of A1111, ComfyUI or any other first."

OPTIONS = (
    click.argument("manifest", required=False),
    click.argument("out", required=False),
    click.option(
        "--prompt", multiple=True, metavar="TEXT", help="Draw this; may be repeated.", **PICTURES
    ),
    click.option("--size", metavar="WxH", help="Picture size in pixels.", **PICTURES),
    click.option(
        "--steps", "--num-inference-steps", "num_inference_steps", type=int, help="Steps.",
        **PICTURES,
    ),
    click.option("--guidance-scale", type=float, help="1 turns guidance off.", **PICTURES),
    click.option(
        "--true-cfg-scale", type=float, help="Guidance beside what Flux is told.", **PICTURES
    ),
    click.option("--scheduler", metavar="NAME", help="A diffusers scheduler class.", **PICTURES),
    click.option("--negative-prompt", metavar="TEXT", help="What not to draw.", **PICTURES),
    click.option(
        "--prompt-syntax", type=click.Choice(PROMPT_SYNTAXES), **PICTURES,
        help="How prompts are read; a1111: (word:1.2), [word], BREAK.  [default: plain]",
    ),
    click.option(
        "--image-format", type=click.Choice(IMAGE_FORMATS), **PICTURES,
        help="How pictures are stored.  [default: png]",
    ),
    click.option(
        "--quality", type=int, metavar="N", **PICTURES,
        help="Of lossy files, 1 to 100.  [default: jpeg, webp and jxl 90, avif 75]",
    ),
    click.option(
        "--lossless", is_flag=True, help="WebP or JPEG XL that keeps every pixel.", **PICTURES
    ),
    click.option(
        "--chroma", type=click.Choice(CHROMAS), **PICTURES,
        help="How finely JPEG and AVIF keep colour; 444 is all.  [default: 420]",
    ),
    click.option(
        "--png-level", type=int, metavar="N", **PICTURES,
        help="Pillow's PNG at level 0 to 9, 9 is smallest.  [default: a faster writer]",
    ),
    click.option(
        "--save-size", metavar="WxH", **PICTURES,
        help="Resize each picture to this before it is stored (Lanczos).",
    ),
    click.option(
        "--picture-metadata", type=click.Choice(PICTURE_METADATA), **PICTURES,
        help="What pictures say of themselves: A1111's infotext and that a model drew them, the "
        "latter alone, or nothing.  [default: infotext]",
    ),
    click.option(
        "--format", type=click.Choice(FORMATS), **JOB,
        help="How the dataset is laid out; files: a folder of pictures.  [default: parquet]",
    ),
    click.option(
        "--captions", type=click.Choice(CAPTIONS), **JOB,
        help="Put each prompt beside its picture as .txt; with webdataset and files.",
    ),
    click.option(
        "--caption-column", metavar="NAME", **JOB,
        help="Also store each prompt under this name, say text, for trainers.",
    ),
    click.option(
        "--class-label", metavar="COLUMN", **JOB,
        help="A manifest column of classes: the dataset holds their numbers and names.",
    ),
    click.option(
        "--license", metavar="ID", **JOB,
        help="Licence that the dataset card states, as the Hub writes it, say cc0-1.0.",
    ),
    click.option(
        "--num-images-per-prompt", type=int, metavar="N", help="Pictures per manifest row.",
        **PICTURES,
    ),
    click.option(
        "--seed", type=int, help="Job seed, for rows without their own.  [default: 0]", **PICTURES
    ),
    click.option(
        "--score", multiple=True, metavar="NAME=MODEL", **PICTURES,
        help="Column NAME_score by a CLIP, SigLIP or aesthetic model; may be repeated.",
    ),
    click.option(
        "--safety", metavar="MODEL|none", **PICTURES,
        help="Columns nsfw and nsfw_score by diffusers' safety checker; pictures stay as they are.",
    ),
    click.option(
        "--filter", metavar="CONDITION", **PICTURES,
        help="Keep pictures apart, in filtered/, for which this holds: 'nsfw or is_blank'.",
    ),
    click.option(
        "--best-of", type=int, metavar="N", **PICTURES,
        help="Draw N pictures of each row and keep the best; the others go to filtered/.",
    ),
    click.option(
        "--best-by", metavar="COLUMN", **PICTURES,
        help="What is best: the largest value of this.  [default: the first score]",
    ),
    click.option(
        "--model", metavar="NAME_OR_PATH", help="Model name, folder, file or hub id.", **MODEL
    ),
    click.option("--models-dir", metavar="DIR", help=MODELS_DIR_HELP, **MODEL),
    click.option(
        "--device", type=click.Choice(DEVICES), help="Where to draw.  [default: auto]", **MODEL
    ),
    click.option("--dtype", type=click.Choice(DTYPES), help="Number type of the model.", **MODEL),
    click.option(
        "--vae", metavar="ID|FOLDER|FILE", help="Another autoencoder for the pictures.", **MODEL
    ),
    click.option(
        "--memory", type=click.Choice(MEMORY), **MODEL,
        help="All of the model on the device, one part at a time, or block by block.  "
        "[default: the first that fits]",
    ),
    click.option(
        "--quantize", type=click.Choice(QUANTIZE), **MODEL,
        help="Keep the model's large matrices in 8 or 4 bits; pictures change.",
    ),
    click.option("--batch-size", help="Lanes of a pass; guidance takes two.", **AUTO, **MODEL),
    click.option(
        "--compile", is_flag=True, help="Compile the model's repeated blocks.", **MODEL
    ),
    click.option(
        "--strict-pixels", is_flag=True, **MODEL,
        help="Fail rows that run out of memory; else they are drawn with half the lanes.",
    ),
    click.option("--engine", type=click.Choice(ENGINES), help="What runs the plan.", **WORKERS),
    click.option(
        "--workers", type=WorkerRange(), metavar="N|MIN:MAX|auto", **WORKERS,
        help="Processes that draw, one GPU each: at most MAX; below MIN the run waits, then ends.",
    ),
    click.option(
        "--address", metavar="auto|HOST:PORT", help="A running Ray cluster.", **WORKERS
    ),
    click.option(
        "--no-canary", "canary", **OFF, **LIMITS,
        help="Go on when most of the first 64 pictures are black, blank, NaN or alike.",
    ),
    click.option("--limit", type=int, metavar="N", help="Only the first N rows.", **LIMITS),
    click.option(
        "--speed", metavar="FILE", **LIMITS,
        help="A measured speed, for time and cost: sdbatch bench --json > FILE.",
    ),
    click.option(
        "--images-per-s", type=float, metavar="X", help="Or the speed of one worker.", **LIMITS
    ),
    click.option(
        "--probe", type=int, metavar="N", **LIMITS,
        help="Or measure it: draw N of the rows, here and now, and throw them away.",
    ),
    click.option(
        "--price-per-hour", type=float, metavar="X", help="Of one GPU, in any currency.", **LIMITS
    ),
    click.option(
        "--max-images", type=int, metavar="N", **LIMITS,
        help="Refuse to plan more pictures; drain when so many are done.",
    ),
    click.option(
        "--max-gpu-hours", type=float, metavar="X", **LIMITS,
        help="Refuse to plan more GPU-hours; drain when a call has spent them: exit 75.",
    ),
    click.option(
        "--max-cost", type=float, metavar="X", help="The same as money.", **LIMITS
    ),
    click.option(
        "--shard-size", help="Manifest rows committed together.", **AUTO, **JOB
    ),
    click.option(
        "--keep-source-columns", is_flag=True, **JOB,
        help="Columns read under another name pass through as well.",
    ),
    click.option(
        "--passthrough-prefix", metavar="TEXT", **JOB,
        help="Begin the names of columns that pass through with this, say in_.",
    ),
    click.option(
        "--append", metavar="RUN", **JOB,
        help="Add a run to the finished dataset OUT under this name, say 20261122.",
    ),
    click.option(
        "--only-new", is_flag=False, flag_value=True, type=OnlyNew(), metavar="[DATASET]", **JOB,
        help="Leave out rows that stand in OUT, or in DATASET, with the same request; write it "
        "last, or as --only-new=DATASET.",
    ),
    click.option("--job", metavar="FILE", help="Job file (YAML); flags override it.", **JOB),
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of a job file.",
        **JOB,
    ),
    click.option(
        "--no-check", "check", **OFF, **JOB,
        help="Trust the rows: read only the manifest's footers.",
    ),
    click.option(
        "--bad-rows", type=click.Choice(BAD_ROWS), **JOB,
        help="Rows that cannot be drawn: refuse to begin, or fail them alone.  [default: refuse]",
    ),
    click.option(
        "--report", "problems", metavar="FILE", **JOB,
        help="Write every problem of a row to this Parquet file.",
    ),
)  # fmt: skip

RENDER_OPTIONS = (
    click.option(
        "--wait-for-workers", metavar="TIME", **WORKERS,
        help="How long to go on with fewer than MIN.  [default: 30m]",
    ),
    click.option(
        "--no-speculate", "speculate", **OFF, **WORKERS,
        help="Near the end, let idle workers rest rather than help the slowest.",
    ),
    click.option(
        "--single-driver", is_flag=True, **WORKERS,
        help="Use a store that lets writers overwrite each other; never start a second run on it.",
    ),
    click.option(
        "--dashboard", is_flag=True, help="Start Ray's dashboard with a local cluster.", **WORKERS
    ),
    click.option(
        "--allow-failed", metavar="N|P%", help="So many failed pictures still exit 0.", **LIMITS
    ),
    click.option(
        "--stop-after-failed", metavar="N|P%", help="So many end the run: exit 4, resumable.",
        **LIMITS,
    ),
    click.option(
        "--stop-after", metavar="TIME", help="End the run after 6h, say: exit 75, resumable.",
        **LIMITS,
    ),
    click.option(
        "--drain", metavar="TIME", **LIMITS,
        help="How long the end may take to store what is in flight.  [default: 2m]",
    ),
    click.option("--no-gc", "gc", help="Leave unused files.", **OFF, **JOB),
)  # fmt: skip
"""Flags that only a run has."""


def run_options(command: F) -> F:
    """Add the shared arguments and flags to a command."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def render_options(command: F) -> F:
    """Add the flags that only a run has."""
    for option in reversed(RENDER_OPTIONS):
        command = option(command)
    return command


def given(ctx: click.Context) -> dict[str, Any]:
    """The parameters that were written on the command line, and only those."""
    return {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def prompts_on_stdin() -> list[str]:
    """One prompt a line.

    Raises:
        ManifestError: There is none, or a line is no UTF-8.
    """
    lines = sys.stdin.buffer.read().split(b"\n")
    prompts = []
    for number, line in enumerate(lines):
        try:
            prompts.append(line.decode("utf-8").rstrip("\r"))
        except UnicodeDecodeError as error:
            raise ManifestError("-", number, "", "", "is no UTF-8 text") from error
    if not any(prompt.strip() for prompt in prompts):
        raise ManifestError("-", -1, "", "", "no prompt on standard input, give one a line")
    return prompts
