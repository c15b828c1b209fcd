"""Flags that `render` and `plan` share; each stands for a job key or an API parameter.

Every flag's parameter has the name that `sdbatch.api.RunOptions` gives it, and diffusers'
long name works beside the short one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from sdbatch.errors import ManifestError
from sdbatch.job import DTYPES, ENGINES

F = TypeVar("F", bound=Callable[..., Any])


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


AUTO: dict[str, Any] = {"type": NumberOrAuto(), "metavar": "N|auto"}

OPTIONS = (
    click.argument("manifest", required=False),
    click.argument("out", required=False),
    click.option("--prompt", multiple=True, metavar="TEXT", help="Draw this; may be repeated."),
    click.option("--model", metavar="NAME_OR_PATH", help="Model name, folder or hub id."),
    click.option("--job", metavar="FILE", help="Job file (YAML); flags override its keys."),
    click.option(
        "--steps", "--num-inference-steps", "num_inference_steps", type=int, help="Steps."
    ),
    click.option("--guidance-scale", type=float, help="1 turns guidance off."),
    click.option("--size", metavar="WxH", help="Picture size in pixels."),
    click.option("--scheduler", metavar="NAME", help="A diffusers scheduler class."),
    click.option("--negative-prompt", metavar="TEXT", help="What not to draw."),
    click.option(
        "--num-images-per-prompt", type=int, metavar="N", help="Pictures per manifest row."
    ),
    click.option("--seed", type=int, help="Job seed, for rows without their own.  [default: 0]"),
    click.option("--dtype", type=click.Choice(DTYPES), help="Number type of the model."),
    click.option("--engine", type=click.Choice(ENGINES), help="What runs the plan."),
    click.option("--workers", **AUTO, help="Processes that draw; one GPU each."),
    click.option("--address", metavar="auto|HOST:PORT", help="A running Ray cluster."),
    click.option("--shard-size", **AUTO, help="Manifest rows committed together."),
    click.option("--batch-size", **AUTO, help="Lanes of a pass; guidance takes two."),
    click.option("--compile", is_flag=True, help="Compile the model's repeated blocks."),
    click.option(
        "--no-canary", "canary", is_flag=True, flag_value=False, default=True,
        help="Go on when most of the first 64 pictures are black, blank, NaN or alike.",
    ),
    click.option("--limit", type=int, metavar="N", help="Only the first N rows."),
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of a job file."
    ),
    click.option(
        "--no-check", "check", is_flag=True, flag_value=False, default=True,
        help="Trust the rows: read only the manifest's footers.",
    ),
)  # fmt: skip


def run_options(command: F) -> F:
    """Add the shared arguments and flags to a command."""
    for option in reversed(OPTIONS):
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
