"""A published architecture with random weights: hardware is sized without a download.

Its models are made where they are to run, in the number format they are to run in;
nothing touches the disk. Prompts become random token ids, for there is no vocabulary. What
comes out is noise, and takes exactly the time and memory that pictures would.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdbatch.errors import DeviceMemoryError, ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.architecture import Architecture, Config
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
from sdbatch.render.diffusers_folder import family_module, join_rooms, quiet
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.memory.holding import loaded_on
from sdbatch.render.memory.memory_choice import AUTO
from sdbatch.render.memory.memory_modes import RESIDENT
from sdbatch.render.renderer import LaneRenderer
from sdbatch.render.vae.vae_range import with_range

SEED = 0


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
        self.pad_token_id = 0

    def get_vocab(self) -> dict[str, int]:
        """No words."""
        return {}

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


def make_rooms(architecture: Architecture, device: torch.device, dtype: torch.dtype) -> Rooms:
    """The rooms of an architecture, with the weights that its models' classes start with.

    On the meta device they have shapes and no numbers.

    Raises:
        ModelError: Its family's models are not made from configurations alone.
    """
    family = family_module(architecture.name, architecture.pipeline_class)
    kinds: Mapping[str, Any] = getattr(family, "PARTS", {})
    if not kinds:
        raise ModelError(f"model {architecture.name}: its family is not sized here yet")
    with quiet(), _made_as(dtype), torch.device(device):
        made = {part: _made(kind, architecture.parts[part]) for part, kind in kinds.items()}
    for part in made.values():
        torch.nn.Module.to(part, dtype=dtype).requires_grad_(False).eval()
    tokenizers = {
        part.replace("text_encoder", "tokenizer"): _tokenizer(architecture.parts[part])
        for part in kinds
        if part.startswith("text_encoder")
    }
    takes = inspect.signature(family.join).parameters
    options = {key: value for key, value in architecture.options.items() if key in takes}
    rooms: Rooms = family.join(**tokenizers, **made, **options)
    return rooms


def _made(kind: Any, config: Config) -> Any:
    if hasattr(kind, "from_config"):
        return kind.from_config(dict(config))
    return kind(kind.config_class.from_dict(dict(config)))


def _tokenizer(config: Config) -> RandomTokenizer:
    return RandomTokenizer(int(config["vocab_size"]), int(config["max_position_embeddings"]))


def count_parameters(rooms: Rooms) -> dict[str, int]:
    """Parameters of each part."""
    return {
        name: sum(weight.numel() for weight in part.parameters())
        for name, part in rooms.components.items()
        if isinstance(part, torch.nn.Module)
    }


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
    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    notes = others_on(device)
    mode = RESIDENT if spec.memory == AUTO else spec.memory
    try:
        rooms = make_rooms(architecture, loaded_on(mode, device), DTYPES[dtype])
    except PASS_ERRORS as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(f"--arch {spec.model}: the weights do not fit") from error
    env = describe(device, dtype, architecture.pipeline_class, spec.cpu_threads)
    rooms = with_range(rooms, device)
    return join_rooms(spec, env, rooms, architecture.scheduler, notes, device, mode)
