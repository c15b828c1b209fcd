"""`sdbatch bench`: how fast this machine draws, and what it takes."""

from __future__ import annotations

import json
from typing import Any

import click

from sdbatch import api
from sdbatch.cli.options import AUTO, MODELS_DIR_HELP
from sdbatch.cli.progress import reporter
from sdbatch.job import DEVICES, DTYPES, MEMORY

EPILOG = """\
\b
Examples:
  sdbatch bench                                        the embedded model, seconds
  sdbatch bench --mix --compare diffusers              unlike rows, diffusers beside them
  sdbatch bench --arch sd15 --random-weights           size hardware, download nothing
  sdbatch bench --model ./my-model --steps 20 --json   a model of one's own, for machines

\b
Exit codes: 0 measured, 2 input or not enough memory, 4 the model fails.
"""


@click.command(epilog=EPILOG)
@click.option("--model", metavar="NAME_OR_PATH", help="A real model.  [default: shapes]")
@click.option("--models-dir", metavar="DIR", help=MODELS_DIR_HELP)
@click.option("--arch", metavar="NAME", help="A published architecture: sd15, sd21, sdxl, shapes.")
@click.option("--random-weights", is_flag=True, help="Make its weights up.")
@click.option("--rows", type=int, metavar="N", help="Pictures of a run.  [default: fills lanes]")
@click.option(
    "--steps", "--num-inference-steps", "num_inference_steps", type=int, help="Steps of a row."
)
@click.option("--size", metavar="WxH", help="Picture size in pixels.")
@click.option("--batch-size", **AUTO, help="Lanes of a pass; guidance takes two.")
@click.option("--dtype", type=click.Choice(DTYPES), default="auto", help="Number type.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="Where to draw.")
@click.option(
    "--memory", type=click.Choice(MEMORY), default="auto",
    help="All of the model on the device, one part at a time, or block by block.",
)  # fmt: skip
@click.option("--rounds", type=int, default=3, show_default=True, help="Figures are medians.")
@click.option("--mix", is_flag=True, help="Also rows of unlike scheduler, steps and guidance.")
@click.option("--compare", type=click.Choice(["diffusers"]), help="Its pipeline in turn with ours.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures for machines.")
def command(as_json: bool, **options: Any) -> int:
    """Measure a model on this machine: pictures, steps, memory and arithmetic."""
    with reporter("plain") as report:
        found = api.bench(**options, report=report)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.describe())
    return 0
