"""Models of every family with random weights, made in milliseconds and saved as their makers would.

One function per family; each gives a diffusers folder that the package can be pointed at.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import sentencepiece
import tokenizers
import transformers

from tests.render.tiny_scorers import seeded, tokenizer_folder

LETTERS = "etaoinshrdlucmfwypvbgkqjxz,.0123456789"
T5_WIDTH = 32


@seeded
def save_t5(folder: Path, tokenizer: str, encoder: str, width: int = T5_WIDTH) -> None:
    """A T5 encoder, and a tokenizer whose tokens are letters, in folders of a model's folder."""
    _t5_words().save_pretrained(folder / tokenizer)
    _t5_encoder(width).save_pretrained(folder / encoder)


def _t5_words() -> Any:
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters = [(letter, -3.0 - i / 10) for i, letter in enumerate(LETTERS)]
    return transformers.T5Tokenizer(vocab=marks + letters, extra_ids=0)


def _t5_encoder(width: int) -> Any:
    config = transformers.T5Config(
        vocab_size=64, d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return transformers.T5EncoderModel(config)


CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
CLIP |= {"num_attention_heads": 2, "vocab_size": 890, "max_position_embeddings": 32}
CLIP |= {"bos_token_id": 888, "eos_token_id": 889, "pad_token_id": 889}
SDXL_UNET = {
    "sample_size": 16,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "attention_head_dim": (2, 4),
    "cross_attention_dim": 80,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 40,
}
SDXL_VAE = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
    "scaling_factor": 0.13025,
}
SDXL_SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


@seeded
def save_sdxl(
    folder: Path,
    *,
    force_zeros: bool = True,
    variant: str | None = None,
    scheduler: dict[str, Any] | None = None,
    unet: dict[str, Any] | None = None,
    vae: dict[str, Any] | None = None,
) -> Path:
    """Stable Diffusion XL of 32 px and words of the embedded model; returns its folder."""
    words = transformers.CLIPTokenizer.from_pretrained(tokenizer_folder())
    others = transformers.CLIPTokenizer.from_pretrained(tokenizer_folder(), pad_token="!")
    wide = CLIP | {"hidden_size": 48, "projection_dim": 40, "hidden_act": "gelu"}
    diffusers.StableDiffusionXLPipeline(
        tokenizer=words,
        tokenizer_2=others,
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP)),
        text_encoder_2=transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(**wide)
        ),
        unet=diffusers.UNet2DConditionModel(**SDXL_UNET | (unet or {})),
        vae=diffusers.AutoencoderKL(**SDXL_VAE | (vae or {})),
        scheduler=diffusers.EulerDiscreteScheduler(**SDXL_SCHEDULER | (scheduler or {})),
        force_zeros_for_empty_prompt=force_zeros,
        add_watermarker=False,
    ).save_pretrained(folder, variant=variant)
    return folder


def save_sentencepiece(folder: Path) -> sentencepiece.SentencePieceProcessor:
    """T5's tokenizer as Google published it: one file of SentencePiece's own; returns it."""
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red circle on white", *LETTERS]),
        model_prefix=str(folder / "spiece"),
        vocab_size=56,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0})
    )
    return sentencepiece.SentencePieceProcessor(str(folder / "spiece.model"))


PIXART = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_layers": 2,
    "in_channels": 4,
    "out_channels": 8,
    "cross_attention_dim": 24,
    "caption_channels": T5_WIDTH,
    "sample_size": 16,
}
PIXART_VAE = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
    "scaling_factor": 0.13025,
}


@seeded
def save_pixart(
    folder: Path,
    pipeline: str = "PixArtSigmaPipeline",
    transformer: dict[str, Any] | None = None,
) -> Path:
    """PixArt-Sigma or -Alpha of 32 px, whose words are letters; returns its folder."""
    save_t5(folder, "tokenizer", "text_encoder")
    getattr(diffusers, pipeline)(
        tokenizer=transformers.T5Tokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=transformers.T5EncoderModel.from_pretrained(folder / "text_encoder"),
        transformer=diffusers.PixArtTransformer2DModel(**PIXART | (transformer or {})),
        vae=diffusers.AutoencoderKL(**PIXART_VAE),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    ).save_pretrained(folder)
    return folder


FLOW_VAE = SDXL_VAE | {
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
SD3_TRANSFORMER = {
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 4,
    "joint_attention_dim": 96,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 64,
    "pos_embed_max_size": 24,
    "dual_attention_layers": (0,),
    "qk_norm": "rms_norm",
}
FLUX_TRANSFORMER = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": T5_WIDTH,
    "pooled_projection_dim": 40,
    "axes_dims_rope": (4, 6, 6),
}


@seeded
def save_sd3(
    folder: Path, *, with_t5: bool = True, scheduler: dict[str, Any] | None = None
) -> Path:
    """Stable Diffusion 3.5 of 32 px and words of the embedded model; returns its folder."""
    words = transformers.CLIPTokenizer.from_pretrained(tokenizer_folder())
    others = transformers.CLIPTokenizer.from_pretrained(tokenizer_folder(), pad_token="!")
    narrow = transformers.CLIPTextConfig(**CLIP | {"projection_dim": 24})
    wide = CLIP | {"hidden_size": 48, "projection_dim": 40, "hidden_act": "gelu"}
    width = SD3_TRANSFORMER["joint_attention_dim"]
    diffusers.StableDiffusion3Pipeline(
        tokenizer=words,
        tokenizer_2=others,
        tokenizer_3=_t5_words() if with_t5 else None,
        text_encoder=transformers.CLIPTextModelWithProjection(narrow),
        text_encoder_2=transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(**wide)
        ),
        text_encoder_3=_t5_encoder(width) if with_t5 else None,
        transformer=diffusers.SD3Transformer2DModel(**SD3_TRANSFORMER),
        vae=diffusers.AutoencoderKL(**FLOW_VAE),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0} | (scheduler or {})),
    ).save_pretrained(folder)
    return folder


@seeded
def save_flux(folder: Path, *, guidance: bool = True) -> Path:
    """Flux (`dev`, or `schnell` without guidance) with words of the embedded model."""
    clip = CLIP | {"hidden_size": 40}
    shifts = {"shift": 3.0, "use_dynamic_shifting": True} if guidance else {"shift": 1.0}
    diffusers.FluxPipeline(
        tokenizer=transformers.CLIPTokenizer.from_pretrained(tokenizer_folder()),
        tokenizer_2=_t5_words(),
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**clip)),
        text_encoder_2=_t5_encoder(T5_WIDTH),
        transformer=diffusers.FluxTransformer2DModel(**FLUX_TRANSFORMER, guidance_embeds=guidance),
        vae=diffusers.AutoencoderKL(**FLOW_VAE),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**shifts),
    ).save_pretrained(folder)
    return folder


GEMMA = {
    "vocab_size": 400,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}
SANA = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_layers": 2,
    "in_channels": 8,
    "out_channels": 8,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 8,
    "cross_attention_dim": 16,
    "caption_channels": GEMMA["hidden_size"],
    "sample_size": 4,
}
DC_AE = {
    "latent_channels": 8,
    "attention_head_dim": 4,
    "encoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
    "decoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
    "encoder_block_out_channels": (8,) * 4,
    "decoder_block_out_channels": (8,) * 4,
    "encoder_layers_per_block": (1,) * 4,
    "decoder_layers_per_block": (1,) * 4,
    "encoder_qkv_multiscales": ((), (), (5,), (5,)),
    "decoder_qkv_multiscales": ((), (), (5,), (5,)),
    "scaling_factor": 0.41407,
}
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
"""Sana's own scheduler is one of diffusion models, told to follow a flow."""


def _gemma_words() -> transformers.GemmaTokenizer:
    """Pieces of the instruction's words, and all letters, behind a mark of the beginning."""
    takes = inspect.signature(diffusers.SanaPipeline.__call__).parameters
    lines = takes["complex_human_instruction"].default
    learnt = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    learnt.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=GEMMA["vocab_size"],
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"],
        initial_alphabet=[*LETTERS, "▁"],
        show_progress=False,
    )
    learnt.train_from_iterator([line.lower() for line in lines], trainer)
    model = json.loads(learnt.to_str())["model"]
    words = transformers.GemmaTokenizer(
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]]
    )
    words.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", words.bos_token_id)]
    )
    return words


@seeded
def save_sana(folder: Path, transformer: dict[str, Any] | None = None) -> Path:
    """Sana of 32 px; returns its folder."""
    diffusers.SanaPipeline(
        tokenizer=_gemma_words(),
        text_encoder=transformers.Gemma2Model(transformers.Gemma2Config(**GEMMA)),
        transformer=diffusers.SanaTransformer2DModel(**SANA | (transformer or {})),
        vae=diffusers.AutoencoderDC(**DC_AE),
        scheduler=diffusers.DPMSolverMultistepScheduler(**FLOW),
    ).save_pretrained(folder)
    return folder
