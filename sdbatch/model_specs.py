"""What draws, and how: the part of a plan that a loaded model follows.

Nouns as in `records.py`, which holds all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Speed:
    """Switches that trade pixels for time, all but the last to the eye alone; part of the plan.

    None of them lets one row depend on another: at equal switches a row keeps its pixels.

    Attributes:
        compile: Compile the denoiser's repeated blocks, one shape at a time.
        channels_last: Lay weights out with channels last; `auto` does on a CPU, `pointwise.py`.
        fuse_qkv: Compute query, key and value of the denoiser's attention in one product.
        attention: Attention kernel of the denoiser, one of `job.ATTENTION`.
        tf32: Let GPUs multiply float32 numbers with 10 bits of mantissa.
        lossy: Switches that the eye may see, with commas: `fp8` keeps the denoiser's weights in
            8 bits, `deepcache:N` runs its inner layers in one step of N.
    """

    compile: bool = False
    channels_last: bool | str = "auto"
    fuse_qkv: bool = False
    attention: str = "auto"
    tf32: bool = False
    lossy: str = ""


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """A model that judges finished pictures.

    Attributes:
        name: As it was asked for; `safety` for the safety checker.
        kind: `clip`, `siglip`, `aesthetic`, `safety` or `fake`.
        model, path: As the user named it, and its folder; `fake:...` scores without torch.
        revision: Hash or commit of the weights.
    """

    name: str
    kind: str
    model: str
    path: str
    revision: str

    @property
    def columns(self) -> tuple[str, ...]:
        """What it says of a picture, by the names of the dataset's columns."""
        return ("nsfw", "nsfw_score") if self.name == "safety" else (f"{self.name}_score",)


def weights_revision(model_revision: str, vae_revision: str = "") -> str:
    """What stands for all weights in a `row_hash`: those of a VAE of its own beside the model's."""
    return f"{model_revision} vae {vae_revision}" if vae_revision else model_revision


@dataclass(frozen=True, slots=True)
class VaeSpec:
    """An autoencoder that takes the place of the model's own.

    Attributes:
        name: As the user gave it.
        path: Its folder, or a file.
        revision: Hash of its weights and configuration, or the hub's commit.
    """

    name: str
    path: str
    revision: str


@dataclass(frozen=True, slots=True)
class RenderSpec:
    """What a worker must know to load a model and draw with it.

    Attributes:
        model: Name as the user gave it.
        model_path: Folder the weights are read from; `fake:...` draws without torch.
        model_revision: Hash or commit the weights must have.
        dtype: `float32`, `bfloat16`, `float16`, or `auto` until a worker has chosen.
        lanes: L per picture size (`WxH`); empty until a worker has chosen.
        cpu_threads: Threads of one worker on a CPU.
        speed: What makes it faster.
        strict_pixels: Rows that run out of memory fail, rather than being drawn with fewer lanes.
        prompt_chunks: Chunks of a prompt for which there must be memory where L is chosen.
        device: `auto`, `cuda`, `mps`, `xpu` or `cpu`.
        scorers: Models that judge the pictures, beside the one that draws them.
        memory: Where weights lie while nobody needs them: one of `job.MEMORY`.
        quantize: How the denoiser's and text encoders' matrices are kept; empty for as they are.
        vae: Draws the pictures in place of the model's own; None for that one.
    """

    model: str
    model_path: str
    model_revision: str
    dtype: str
    lanes: Mapping[str, int]
    cpu_threads: int
    speed: Speed = Speed()
    strict_pixels: bool = False
    prompt_chunks: int = 1
    scorers: tuple[ScorerSpec, ...] = ()
    memory: str = "auto"
    quantize: str = ""
    vae: VaeSpec | None = None
    device: str = "auto"

    @property
    def weights_revision(self) -> str:
        """What stands for all weights in a `row_hash`."""
        return weights_revision(self.model_revision, self.vae.revision if self.vae else "")


@dataclass(frozen=True, slots=True)
class RenderEnv:
    """What a renderer runs on: recorded with every picture, a difference only warns.

    Attributes:
        device: `cpu`, `cuda`, ...
        device_name: As its maker calls it.
        dtype: What `auto` became.
        pipeline_class: From `model_index.json`.
        kernels: What else decides pixels: threads, instruction set, library versions.
    """

    device: str
    device_name: str
    dtype: str
    pipeline_class: str
    torch_version: str
    diffusers_version: str
    kernels: str
