"""`python -m sdbatch.models.judge OUT`: does a rendered dataset show what its prompts say?

Reads the dataset's Parquet files as anyone would, reads each full caption back as a scene, and
prints the table of the model card. Prompts that do not say everything are left out and counted.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from sdbatch.models.drawing import SIDE_PX
from sdbatch.models.judge_part import judge_real_pictures
from sdbatch.models.judging import Judge, agreement, load_judge
from sdbatch.models.reading import read_caption
from sdbatch.models.world import AT

TABLE_BEGINS, TABLE_ENDS = "<!-- judged -->", "<!-- /judged -->"
_ROWS = {
    "layout": ("layout",),
    "background": ("background",),
    "position": ("place",),
    "size of object 1 / 2": ("size_1", "size_2"),
    "pattern of object 1 / 2": ("pattern_1", "pattern_2"),
    "colour of object 1 / 2": ("colour_1", "colour_2"),
    "shape of object 1 / 2": ("shape_1", "shape_2"),
    "layout, background, shapes and colours": ("core",),
    "everything": ("all",),
}
_AT_ONCE = 250


def judge_dataset(out: Path, judge: Judge) -> tuple[dict[str, float], int, int]:
    """The share of pictures in which each attribute is as the prompt says.

    Returns:
        The table, how many pictures were judged, and how many prompts say too little.
    """
    scenes, named, unread = [], [], 0
    for prompts, pictures in _batches(out):
        read = [read_caption(prompt) for prompt in prompts]
        full = [number for number, scene in enumerate(read) if scene is not None]
        unread += len(prompts) - len(full)
        if not full:
            continue
        some = np.array([read[number] for number in full], np.int64)
        scenes.append(some)
        named.append(judge.name(pictures[full], torch.from_numpy(some[:, AT["layout"]])))
    if not scenes:
        raise click.ClickException(f"{out}: no prompt is a full caption of this world")
    together = {name: np.concatenate([part[name] for part in named]) for name in AT}
    every = np.concatenate(scenes)
    return agreement(together, every), len(every), unread


def _batches(out: Path) -> Iterator[tuple[list[str], Tensor]]:
    """Prompts and pictures `[n, 3, 64, 64]` from 0 to 1, of every data file."""
    files = sorted((out / "data").glob("*.parquet"))
    if not files:
        raise click.ClickException(f"{out}: no data/*.parquet, give the folder of a finished run")
    for path in files:
        rows = pq.ParquetFile(path).iter_batches(_AT_ONCE, columns=["prompt", "image"])
        for batch in rows:
            images = [image["bytes"] for image in batch["image"].to_pylist()]
            yield batch["prompt"].to_pylist(), torch.stack([_picture(image) for image in images])


def _picture(data: bytes) -> Tensor:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if image.size != (SIDE_PX, SIDE_PX):
        image = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def markdown(drawn: Mapping[str, float], real: Mapping[str, float], count: int) -> str:
    """The table of the model card."""
    lines = [f"| {count:,} drawn pictures | right | the judge on real ones |", "|---|---|---|"]
    for title, names in _ROWS.items():
        if names[0] in drawn:
            lines.append(f"| {title} | {_shares(drawn, names)} | {_shares(real, names)} |")
    return "\n".join(lines)


def _shares(table: Mapping[str, float], names: tuple[str, ...]) -> str:
    return " / ".join(f"{table[name]:.3f}" for name in names if name in table)


@click.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--card", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A model card whose table is replaced.")  # fmt: skip
def command(out: Path, card: Path | None) -> None:
    """Judge the pictures of a rendered dataset by their prompts."""
    judge = load_judge()
    drawn, count, unread = judge_dataset(out, judge)
    table = markdown(drawn, judge_real_pictures(judge), count)
    click.echo(table)
    if unread:
        click.echo(f"{unread} more are no full captions of this world and were left out", err=True)
    if card is not None:
        _replace_table(card, table)


def _replace_table(card: Path, table: str) -> None:
    text = card.read_text()
    if TABLE_BEGINS not in text or TABLE_ENDS not in text:
        raise click.ClickException(f"{card}: has no {TABLE_BEGINS} ... {TABLE_ENDS} to fill")
    before, rest = text.split(TABLE_BEGINS, 1)
    after = rest.split(TABLE_ENDS, 1)[1]
    card.write_text(f"{before}{TABLE_BEGINS}\n{table}\n{TABLE_ENDS}{after}")


if __name__ == "__main__":
    command()
