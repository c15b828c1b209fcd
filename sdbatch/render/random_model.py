"""A published architecture with random weights: hardware is sized without a download.

The three models are made where they are to run, in the number format they are to run in;
nothing touches the disk. Prompts become random token ids, for there is no vocabulary. What
comes out is noise, and takes exactly the time and memory that pictures would.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from sdbatch.errors import DeviceMemoryError
from sdbatch.records import RenderSpec
from sdbatch.render.architecture import Architecture
from sdbatch.render.device import (
    DTYPES,
    PASS_ERRORS,
    be_exact,
    choose_device,
    choose_dtype,
    describe,
    is_out_of_memory,
    others_on,
    use_threads,
)
from sdbatch.render.diffusers_folder import join_rooms, quiet
from sdbatch.render.families.sd import SdTextModel, SdUnet, SdVae
from sdbatch.render.renderer import LaneRenderer

SEED = 0


@dataclass(frozen=True, slots=True)
class Modules:
    """The models of an architecture; on the meta device they have shapes and no numbers."""

    text_encoder: Any
    unet: Any
    vae: Any

    def counts(self) -> dict[str, int]:
        """Parameters of each."""
        parts = {"text_encoder": self.text_encoder, "unet": self.unet, "vae": self.vae}
        return {
            name: sum(weight.numel() for weight in part.parameters())
            for name, part in parts.items()
        }


@dataclass(frozen=True, slots=True)
class RandomTokens:
    """What a tokenizer returns."""

    input_ids: Any
    attention_mask: Any


class RandomTokenizer:
    """Stands where a tokenizer does: a prompt's ids are random, and always the same.

    Args:
        vocab_size: Ids are below it.
        length: Ids of a prompt that is filled up.
    """

    def __init__(self, vocab_size: int, length: int) -> None:
        self.vocab_size = vocab_size
        self.model_max_length = length
        self.added_tokens_encoder: dict[str, int] = {}

    def tokenize(self, prompt: str) -> list[str]:
        """Words, for who looks for special ones among them."""
        return prompt.split()

    def __call__(
        self, prompts: Sequence[str], *, padding: str | bool = False, **_: object
    ) -> RandomTokens:
        """Ids of each prompt: a tensor where it is filled to `max_length`, else short lists."""
        if padding != "max_length":
            short = [[0, 0] for _ in prompts]
            if padding:
                return RandomTokens(torch.tensor(short), torch.ones(len(short), 2))
            return RandomTokens(short, None)
        ids = torch.stack([self._ids(prompt) for prompt in prompts])
        return RandomTokens(ids, torch.ones_like(ids))

    def _ids(self, prompt: str) -> Tensor:
        generator = torch.Generator().manual_seed(zlib.crc32(prompt.encode()))
        return torch.randint(self.vocab_size, (self.model_max_length,), generator=generator)


def make_modules(architecture: Architecture, device: torch.device, dtype: torch.dtype) -> Modules:
    """The models of an architecture with the weights their classes start with."""
    config = transformers.CLIPTextConfig.from_dict(dict(architecture.text_encoder))
    with quiet(), _made_as(dtype), torch.device(device):
        text = transformers.CLIPTextModel(config)
        unet = diffusers.UNet2DConditionModel.from_config(dict(architecture.unet))
        vae = diffusers.AutoencoderKL.from_config(dict(architecture.vae))
    for part in (text, unet, vae):
        torch.nn.Module.to(part, dtype=dtype).requires_grad_(False).eval()
    return Modules(text, unet, vae)


@contextmanager
def _made_as(dtype: torch.dtype) -> Iterator[None]:
    """Make weights in a number format, the same ones every time."""
    kept = torch.get_default_dtype()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(SEED)
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(kept)


def load_random(spec: RenderSpec, architecture: Architecture) -> LaneRenderer:
    """A renderer of an architecture with random weights.

    Raises:
        DeviceMemoryError: The weights do not fit.
    """
    use_threads(spec.cpu_threads)
    be_exact()
    device = choose_device()
    dtype = choose_dtype(spec.dtype, device)
    notes = others_on(device)
    try:
        made = make_modules(architecture, device, DTYPES[dtype])
    except PASS_ERRORS as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(f"--arch {spec.model}: the weights do not fit") from error
    length, _ = architecture.embeds_shape
    tokenizer = RandomTokenizer(int(architecture.text_encoder["vocab_size"]), length)
    parts = (SdTextModel(tokenizer, made.text_encoder), SdUnet(made.unet), SdVae(made.vae))
    env = describe(device, dtype, architecture.pipeline_class, spec.cpu_threads)
    return join_rooms(spec, env, parts, architecture.scheduler, notes)
