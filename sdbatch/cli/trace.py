"""`sdbatch trace`: one row from noise to picture, as a strip to look at."""

from __future__ import annotations

import json
from typing import Any

import click

from sdbatch import api
from sdbatch.cli.options import MODELS_DIR_HELP
from sdbatch.job import DTYPES, PROMPT_SYNTAXES

MOST_FRAMES = 32
EPILOG = """\
\b
Examples:
  sdbatch trace "a large red star" --out star.png
  sdbatch trace "a large red star" --seed 7 --steps 30 --frames 10
  sdbatch trace 000000012_000 --from out/night --out night-12.png

\b
Exit codes: 0 drawn, 2 input, 4 the row cannot be drawn.
"""


@click.command(epilog=EPILOG)
@click.argument("prompt", metavar="PROMPT_OR_KEY")
@click.option("--from", "dataset", metavar="OUT", help="PROMPT_OR_KEY is a key of this dataset.")
@click.option("--out", default="strip.png", show_default=True, metavar="FILE", help="The strip.")
@click.option(
    "--frames",
    type=click.IntRange(1, MOST_FRAMES),
    default=8,
    show_default=True,
    help="Calls of the model to show.",
)
@click.option("--model", metavar="NAME_OR_PATH", help="Model name, folder, file or hub id.")
@click.option("--models-dir", metavar="DIR", help=MODELS_DIR_HELP)
@click.option("--steps", "--num-inference-steps", "num_inference_steps", type=int, help="Steps.")
@click.option("--guidance-scale", type=float, help="1 turns guidance off.")
@click.option("--true-cfg-scale", type=float, help="Guidance beside the one that Flux is told.")
@click.option("--size", metavar="WxH", help="Picture size in pixels.")
@click.option("--scheduler", metavar="NAME", help="A diffusers scheduler class.")
@click.option("--negative-prompt", metavar="TEXT", help="What not to draw.")
@click.option("--prompt-syntax", type=click.Choice(PROMPT_SYNTAXES), help="How prompts are read.")
@click.option("--seed", type=int, help="The picture's own.  [default: what render would take]")
@click.option("--dtype", type=click.Choice(DTYPES), help="Number type of the model.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures for machines.")
def command(prompt: str, as_json: bool, **options: Any) -> int:
    """Draw one row and show how it came about: PROMPT, or a picture of a dataset.

    The strip shows what the model saw and which finished picture it had in mind, call by
    call, and how soon coarse, middle and fine parts were decided.
    """
    given = {name: value for name, value in options.items() if value is not None}
    found = api.trace(prompt, **given)
    click.echo(json.dumps(found.to_dict()) if as_json else found.describe())
    return 0
