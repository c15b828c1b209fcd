"""`python -m sdbatch.models.train`: make the embedded model, part by part.

Tokenizer and text encoder, VAE, its decoder once more, the judge, a pool of latents, the UNet, and
at the end the folder that ships. Everything is kept under one folder: parts, checkpoints, and a
log with a line for each measurement. The same command with `--resume` goes on where it stopped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from sdbatch.models import denoiser_part, vae_part
from sdbatch.models.denoiser_part import DenoiserPart
from sdbatch.models.folder import TEXT, UNET, VAE, load_unet, load_vae, save_text, write_folder
from sdbatch.models.judge_part import JudgePart
from sdbatch.models.judging import WEIGHTS, Judge, load_judge, save_judge
from sdbatch.models.pool import make_pool
from sdbatch.models.prompts import Prompts
from sdbatch.models.sampling import DrawnTable
from sdbatch.models.text_part import TextPart, new_encoder
from sdbatch.models.tokens import make_tokenizer
from sdbatch.models.training import Budget, Part, Training
from sdbatch.models.vae_part import DecoderPart, VaePart, whiten


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where a model is made, and how long at each part."""

    folder: Path
    device: str
    budget: Budget
    resume: bool
    seed: int
    batch: int
    pool: int
    judged: int

    @property
    def parts(self) -> Path:
        """The parts in float32."""
        return self.folder / "parts"

    def train(self, part: Part) -> None:
        """Train one part for the budget, from its checkpoint when that is wanted."""
        training = Training(part, self.folder, self.seed)
        kept = self.folder / f"{part.name}.pt"
        if self.resume:
            training.resume()
        elif kept.exists():
            raise click.UsageError(f"{kept} stands: --resume goes on from it, or move it away")
        training.run(self.budget)


def _text(shop: Workshop) -> None:
    tokenizer = make_tokenizer()
    prompts = Prompts(tokenizer, new_encoder(tokenizer), shop.device)
    shop.train(TextPart(prompts, shop.batch, shop.device))
    save_text(prompts, shop.parts)


def _vae(shop: Workshop) -> None:
    vae = AutoencoderKL(**vae_part.SHAPE)
    shop.train(VaePart(vae, shop.batch, shop.device))
    whiten(vae, shop.device)
    vae.save_pretrained(shop.parts / VAE)


def _decoder(shop: Workshop) -> None:
    vae = load_vae(shop.parts)
    shop.train(DecoderPart(vae, shop.batch, shop.device))
    vae.save_pretrained(shop.parts / VAE)


def _judge(shop: Workshop) -> None:
    judge = Judge()
    shop.train(JudgePart(judge, shop.batch))
    save_judge(judge, shop.folder / WEIGHTS.name)


def _unet(shop: Workshop) -> None:
    vae, prompts = load_vae(shop.parts).to(shop.device), Prompts.load(shop.parts, shop.device)
    pool = make_pool(shop.folder / "pool", shop.pool, vae, shop.device)
    own = shop.folder / WEIGHTS.name
    judge = load_judge(own if own.exists() else WEIGHTS)
    table = DrawnTable(vae, prompts, judge, shop.judged, shop.device)
    begun = (shop.parts / UNET).exists()
    unet = load_unet(shop.parts) if begun else UNet2DConditionModel(**denoiser_part.SHAPE)
    shop.train(DenoiserPart(unet, prompts, pool, shop.batch, shop.device, table))
    unet.save_pretrained(shop.parts / UNET)


def _folder(shop: Workshop) -> None:
    size = write_folder(shop.folder / "model", shop.parts)
    click.echo(f"{shop.folder / 'model'}: {size / 1e6:.2f} MB")


MAKERS: dict[str, Callable[[Workshop], None]] = {
    "text": _text,
    "vae": _vae,
    "decoder": _decoder,
    "judge": _judge,
    "unet": _unet,
    "folder": _folder,
}


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("shapes-training"),
              help="Where parts, checkpoints and the log are kept.")  # fmt: skip
@click.option("--part", "chosen", type=click.Choice(list(MAKERS)), multiple=True,
              help="Make only this; may be repeated. All, in this order, without it.")  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; the same ones, same weights.")
@click.option("--steps", type=click.IntRange(0), help="Steps of each part, earlier legs included.")
@click.option("--minutes", type=click.FloatRange(0), help="Minutes of each part, likewise.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoints in the folder.")
@click.option("--start", type=click.Path(exists=True, path_type=Path),
              help="A model folder whose parts are trained on.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=48, help="Scenes a step.")
@click.option("--pool", type=click.IntRange(1), default=98_304, help="Scenes encoded beforehand.")
@click.option("--judged", type=click.IntRange(1), default=100,
              help="Captions drawn and judged at each measurement.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0)
def command(
    folder: Path,
    chosen: tuple[str, ...],
    device: str,
    threads: int | None,
    steps: int | None,
    minutes: float | None,
    resume: bool,
    start: Path | None,
    batch: int,
    pool: int,
    judged: int,
    seed: int,
) -> None:
    """Train the embedded model; --steps or --minutes says how long at each part."""
    if (steps is None) == (minutes is None):
        raise click.UsageError("one of --steps and --minutes says how long")
    if threads:
        torch.set_num_threads(threads)
    _be_exact()
    shop = Workshop(folder, device, Budget(steps, minutes), resume, seed, batch, pool, judged)
    if start is not None:
        _take_parts(start, shop.parts)
    for name, make in MAKERS.items():
        if not chosen or name in chosen:
            torch.manual_seed(seed)
            make(shop)


def _take_parts(model: Path, parts: Path) -> None:
    """Begin with a model's parts; what is there already stays."""
    for name in (*TEXT, VAE, UNET):
        if not (parts / name).exists():
            shutil.copytree(model / name, parts / name)


def _be_exact() -> None:
    """Equal steps, equal weights, on a GPU too."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)


if __name__ == "__main__":
    command()
