"""Pipelines that are drawn whole, with random weights, saved as their makers would.

One function per pipeline; each gives the folder. Words are those of the embedded model, or
letters where a pipeline wants T5 or Gemma.
"""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import transformers
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import (
    LDMBertConfig,
    LDMBertModel,
)

from tests.render.tiny_models import CLIP, DC_AE, GEMMA, SANA, _gemma_words, save_t5
from tests.render.tiny_scorers import clip_config, seeded, tokenizer_folder

KL = {
    "block_out_channels": (8,) * 4,
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
}
PIXELS = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
}


def _words() -> transformers.CLIPTokenizer:
    return transformers.CLIPTokenizer.from_pretrained(tokenizer_folder())


@seeded
def save_ddpm(folder: Path, side: int = 16, channels: int = 3) -> Path:
    """A model in pixels that draws without words."""
    unet = diffusers.UNet2DModel(
        sample_size=side, in_channels=channels, out_channels=channels, **PIXELS
    )
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


@seeded
def save_ldm(folder: Path) -> Path:
    """Latent diffusion without words: pictures of 32 px."""
    unet = diffusers.UNet2DModel(sample_size=16, in_channels=3, out_channels=3, **PIXELS)
    diffusers.LDMPipeline(_vq(), unet, diffusers.DDIMScheduler()).save_pretrained(folder)
    return folder


def _vq() -> diffusers.VQModel:
    return diffusers.VQModel(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        num_vq_embeddings=32,
    )


@seeded
def save_ldm_text(folder: Path) -> Path:
    """Latent diffusion from text, whose encoder is diffusers' own."""
    bert = LDMBertConfig(
        vocab_size=890, encoder_layers=1, encoder_ffn_dim=32, encoder_attention_heads=2,
        head_dim=8, d_model=16,
    )  # fmt: skip
    diffusers.LDMTextToImagePipeline(
        vqvae=diffusers.AutoencoderKL(**KL),
        bert=LDMBertModel(bert),
        tokenizer=_words(),
        unet=diffusers.UNet2DConditionModel(**_unet(cross_attention_dim=16)),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False),
    ).save_pretrained(folder)
    return folder


def _unet(**changes: object) -> dict[str, object]:
    usual: dict[str, object] = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
    }
    return usual | changes


@seeded
def save_dit(folder: Path) -> Path:
    """A model of ImageNet's kind: three classes, one of them with two names."""
    diffusers.DiTPipeline(
        transformer=diffusers.DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8,
            num_layers=1, sample_size=4, num_embeds_ada_norm=1000,
        ),
        vae=diffusers.AutoencoderKL(**KL),
        scheduler=diffusers.DDIMScheduler(),
    ).save_pretrained(folder)  # fmt: skip
    index = folder / "model_index.json"  # as published: the pipeline does not write them itself
    labels = {"0": "tench, Tinca tinca", "1": "goldfish", "2": "white shark"}
    index.write_text(json.dumps(json.loads(index.read_text()) | {"id2label": labels}))
    return folder


@seeded
def save_kandinsky(folder: Path) -> Path:
    """Kandinsky 2.2 with its prior in one folder."""
    width = 16
    text = transformers.CLIPTextConfig(**CLIP | {"hidden_size": width, "projection_dim": width})
    vision = clip_config().vision_config
    vision.projection_dim = width
    diffusers.KandinskyV22CombinedPipeline(
        unet=diffusers.UNet2DConditionModel(
            in_channels=4, out_channels=8, encoder_hid_dim=width, cross_attention_dim=16,
            encoder_hid_dim_type="image_proj", addition_embed_type="image",
            block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1,
            attention_head_dim=4, resnet_time_scale_shift="scale_shift",
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        ),
        scheduler=diffusers.DDPMScheduler(thresholding=False),
        movq=diffusers.VQModel(
            block_out_channels=(32, 32), norm_num_groups=8, latent_channels=4, layers_per_block=1,
            down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
            up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
            num_vq_embeddings=12, norm_type="spatial", vq_embed_dim=4,
        ),
        prior_prior=diffusers.PriorTransformer(
            num_attention_heads=2, attention_head_dim=8, embedding_dim=width, num_layers=1,
            num_embeddings=32,
        ),
        prior_image_encoder=transformers.CLIPVisionModelWithProjection(vision),
        prior_text_encoder=transformers.CLIPTextModelWithProjection(text),
        prior_tokenizer=_words(),
        prior_scheduler=diffusers.UnCLIPScheduler(prediction_type="sample"),
        prior_image_processor=transformers.CLIPImageProcessorPil(),
    ).save_pretrained(folder)  # fmt: skip
    return folder


@seeded
def save_lumina2(folder: Path) -> Path:
    """Lumina Image 2.0, whose prompts are read by Gemma."""
    diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(
            sample_size=4, patch_size=2, in_channels=4, hidden_size=24, num_layers=2,
            num_refiner_layers=1, num_attention_heads=2, num_kv_heads=1, multiple_of=8,
            axes_dim_rope=(4, 4, 4), axes_lens=(512, 32, 32), cap_feat_dim=GEMMA["hidden_size"],
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKL(**KL, shift_factor=0.1),
        text_encoder=transformers.Gemma2Model(transformers.Gemma2Config(**GEMMA)),
        tokenizer=_gemma_words(),
    ).save_pretrained(folder)  # fmt: skip
    return folder


@seeded
def save_auraflow(folder: Path) -> Path:
    """AuraFlow, whose prompts are read by a T5 of many languages."""
    save_t5(folder, "tokenizer", "text_encoder")
    umt5 = transformers.UMT5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    diffusers.AuraFlowPipeline(
        tokenizer=transformers.T5Tokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=transformers.UMT5EncoderModel(umt5),
        vae=diffusers.AutoencoderKL(**KL),
        transformer=diffusers.AuraFlowTransformer2DModel(
            sample_size=4, patch_size=2, in_channels=4, out_channels=4, num_mmdit_layers=1,
            num_single_dit_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=16, caption_projection_dim=16, pos_embed_max_size=64,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(folder)  # fmt: skip
    return folder


@seeded
def save_hunyuan(folder: Path) -> Path:
    """Hunyuan-DiT, which reads a prompt with BERT and with T5."""
    save_t5(folder, "tokenizer_2", "text_encoder_2")
    (folder / "tokenizer").mkdir(parents=True)
    letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    words = letters + [f"##{letter}" for letter in letters[5:]]
    (folder / "tokenizer/vocab.txt").write_text("\n".join(words))
    bert = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    diffusers.HunyuanDiTPipeline(
        vae=diffusers.AutoencoderKL(**KL),
        text_encoder=transformers.BertModel(bert),
        tokenizer=transformers.BertTokenizer.from_pretrained(folder / "tokenizer"),
        transformer=diffusers.HunyuanDiT2DModel(
            sample_size=4, num_layers=2, patch_size=2, attention_head_dim=8,
            num_attention_heads=2, in_channels=4, cross_attention_dim=16, hidden_size=16,
            cross_attention_dim_t5=32, pooled_projection_dim=8, activation_fn="gelu-approximate",
        ),
        scheduler=diffusers.DDPMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=transformers.T5EncoderModel.from_pretrained(folder / "text_encoder_2"),
        tokenizer_2=transformers.T5Tokenizer.from_pretrained(folder / "tokenizer_2"),
    ).save_pretrained(folder)  # fmt: skip
    return folder


@seeded
def save_sprint(folder: Path) -> Path:
    """Sana Sprint, which is told its guidance and draws in two steps unless asked for others."""
    diffusers.SanaSprintPipeline(
        tokenizer=_gemma_words(),
        text_encoder=transformers.Gemma2Model(transformers.Gemma2Config(**GEMMA)),
        transformer=diffusers.SanaTransformer2DModel(**SANA, guidance_embeds=True),
        vae=diffusers.AutoencoderDC(**DC_AE),
        scheduler=diffusers.SCMScheduler(),
    ).save_pretrained(folder)
    return folder
