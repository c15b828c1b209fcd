"""Checkpoints in one file as their makers lay them out, from diffusers folders of tiny models.

The layout is the inverse of `diffusers.loaders.single_file_utils`: names of CompVis' programs
for UNet and VAE, of OpenAI's or OpenCLIP's for text encoders.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import diffusers
import torch
import transformers
from safetensors.torch import save_file

from sdbatch.render.diffusers_folder import quiet
from tests.render.tiny_scorers import seeded, tokenizer_folder

Tensors = dict[str, torch.Tensor]

UNET = {
    "sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "attention_head_dim": 8,
}  # fmt: skip
VAE = {
    "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 16,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
SCHEDULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
WORDS = 890
"""Of the tokenizer that comes with the embedded model."""


def clip(kind, width: int, act: str = "quick_gelu"):
    config = transformers.CLIPTextConfig(
        vocab_size=WORDS, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, projection_dim=width, hidden_act=act,
        bos_token_id=888, eos_token_id=889, pad_token_id=889,
    )  # fmt: skip
    return kind(config).eval()


@seeded
def save_tiny_sd(folder: Path, *, v2: bool = False) -> Path:
    """A diffusers folder of Stable Diffusion with random weights."""
    unet = diffusers.UNet2DConditionModel(**UNET, cross_attention_dim=32, use_linear_projection=v2)
    text = clip(transformers.CLIPTextModel, 32, "gelu" if v2 else "quick_gelu")
    index = {"_class_name": "StableDiffusionPipeline"}
    return _save(folder, index, {"unet": unet, "text_encoder": text}, "DDIMScheduler")


@seeded
def save_tiny_sdxl(folder: Path) -> Path:
    """A diffusers folder of Stable Diffusion XL with random weights."""
    unet = diffusers.UNet2DConditionModel(
        **UNET, cross_attention_dim=48, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 32,
        transformer_layers_per_block=(1, 2),
    )  # fmt: skip
    texts = {
        "text_encoder": clip(transformers.CLIPTextModel, 16),
        "text_encoder_2": clip(transformers.CLIPTextModelWithProjection, 32, "gelu"),
    }
    index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
    return _save(folder, index, {"unet": unet, **texts}, "EulerDiscreteScheduler")


def _save(folder: Path, index: dict, parts: dict, scheduler: str) -> Path:
    parts = {**parts, "vae": diffusers.AutoencoderKL(**VAE)}
    for part, model in parts.items():
        model.save_pretrained(folder / part)
        library = "transformers" if part.startswith("text") else "diffusers"
        index[part] = [library, type(model).__name__]
    for part in [part for part in parts if part.startswith("text_encoder")]:
        tokenizer = part.replace("text_encoder", "tokenizer")
        shutil.copytree(tokenizer_folder(), folder / tokenizer)
        said = json.loads((folder / tokenizer / "tokenizer_config.json").read_text())
        said["model_max_length"] = 16
        (folder / tokenizer / "tokenizer_config.json").write_text(json.dumps(said))
        index[tokenizer] = ["transformers", "CLIPTokenizer"]
    getattr(diffusers, scheduler)(**SCHEDULER).save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", scheduler]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def save_one_file(folder: Path, path: Path, dtype=torch.float32, **changes) -> Path:
    """The weights of a diffusers folder in one file, and its configuration beside it."""
    tensors = {key: tensor.to(dtype) for key, tensor in original(folder).items()} | changes
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(folder, path.with_suffix(".config"), ignore=ignored)
    return path


def original(folder: Path) -> Tensors:
    """The tensors of a diffusers folder by the names that the model was published with."""
    with quiet():
        unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
        vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae")
        text = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder")
    found = {
        **prefixed("model.diffusion_model.", unet_names(unet)),
        **prefixed("first_stage_model.", vae_names(vae)),
    }
    if (folder / "text_encoder_2").is_dir():
        with quiet():
            second = transformers.CLIPTextModelWithProjection.from_pretrained(
                folder / "text_encoder_2"
            )
        return {
            **found,
            **prefixed("conditioner.embedders.0.transformer.", clip_names(text)),
            **prefixed("conditioner.embedders.1.model.", open_clip_names(second)),
        }
    if unet.config.use_linear_projection:
        return {**found, **prefixed("cond_stage_model.model.", open_clip_names(text))}
    return {**found, **prefixed("cond_stage_model.transformer.", clip_names(text))}


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{key}": tensor for key, tensor in tensors.items()}


RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip


def unet_names(unet) -> Tensors:
    layers = unet.config.layers_per_block
    return {
        _unet_name(key, layers, unet.config): tensor for key, tensor in unet.state_dict().items()
    }


def _unet_name(key: str, layers: int, config) -> str:
    for ours, theirs in UNET_ENDS.items():
        if key.startswith(f"{ours}."):
            return key.replace(ours, theirs)
    where, block, kind, layer, rest = re.fullmatch(
        r"(down|mid|up)_blocks?(?:\.(\d+))?\.(\w+)\.(\d+)\.(.*)", key
    ).groups()
    inner = rest
    if kind == "resnets":
        part, _, leaf = rest.partition(".")
        inner = f"{RESNET[part]}.{leaf}"
    if where == "mid":
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(layer)}.{inner}"
    number, layer = int(block), int(layer)
    if where == "down":
        if kind == "downsamplers":
            return f"input_blocks.{(number + 1) * (layers + 1)}.0.op.{rest.partition('.')[2]}"
        slot = 1 + number * (layers + 1) + layer
        return f"input_blocks.{slot}.{1 if kind == 'attentions' else 0}.{inner}"
    if kind == "upsamplers":
        attends = "CrossAttn" in config.up_block_types[number]
        return f"output_blocks.{number * (layers + 1) + layers}.{2 if attends else 1}.{rest}"
    slot = number * (layers + 1) + layer
    return f"output_blocks.{slot}.{1 if kind == 'attentions' else 0}.{inner}"


ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def vae_names(vae) -> Tensors:
    blocks = len(vae.config.block_out_channels)
    found = {}
    for key, tensor in vae.state_dict().items():
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", key)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        up = re.compile(r"up_blocks\.(\d+)\.(resnets|upsamplers\.0)")
        name = up.sub(
            lambda m: f"up.{blocks - 1 - int(m[1])}.{'block' if m[2] == 'resnets' else 'upsample'}",
            name,
        )
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0." in name:
            name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
            for ours, theirs in ATTENTION.items():
                name = name.replace(f".{ours}.", f".{theirs}.")
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        found[name] = tensor
    return found


def clip_names(text) -> Tensors:
    return {
        key if key.startswith(("text_model.", "text_projection")) else f"text_model.{key}": tensor
        for key, tensor in text.state_dict().items()
    }


OPEN_CLIP = {
    "encoder.layers.": "transformer.resblocks.", "layer_norm1": "ln_1", "layer_norm2": "ln_2",
    "fc1": "c_fc", "fc2": "c_proj", "self_attn": "attn", "final_layer_norm": "ln_final",
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
}  # fmt: skip


def open_clip_names(text) -> Tensors:
    found: Tensors = {}
    for key, tensor in text.state_dict().items():
        name = key.removeprefix("text_model.")
        for ours, theirs in OPEN_CLIP.items():
            name = name.replace(ours, theirs)
        if name == "text_projection.weight":
            found["text_projection"] = tensor.T
        elif ".q_proj." in name:
            leaf = name.rpartition(".")[2]
            parts = [text.state_dict()[key.replace(".q_proj.", f".{p}_proj.")] for p in "qkv"]
            found[name.replace(f".q_proj.{leaf}", f".in_proj_{leaf}")] = torch.cat(parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            found[name] = tensor
    return found


def published(architecture: dict) -> Tensors:
    """The tensors of a published architecture, on the meta device: names and shapes alone."""
    with quiet(), torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(architecture["unet"])
        vae = diffusers.AutoencoderKL.from_config(architecture["vae"])
        texts = {}
        for part, kind in (
            ("text_encoder", transformers.CLIPTextModel),
            ("text_encoder_2", transformers.CLIPTextModelWithProjection),
        ):
            if part in architecture:
                config = transformers.CLIPTextConfig.from_dict(architecture[part])
                texts[part] = kind(config)
    found = {
        **prefixed("model.diffusion_model.", unet_names(unet)),
        **prefixed("first_stage_model.", vae_names(vae)),
    }
    first, second = texts.get("text_encoder"), texts.get("text_encoder_2")
    if second is None:
        openly = architecture["unet"]["cross_attention_dim"] == 1024
        names = open_clip_names(first) if openly else clip_names(first)
        place = "cond_stage_model.model." if openly else "cond_stage_model.transformer."
        return {**found, **prefixed(place, names)}
    if first is None:
        return {**found, **prefixed("conditioner.embedders.0.model.", open_clip_names(second))}
    return {
        **found,
        **prefixed("conditioner.embedders.0.transformer.", clip_names(first)),
        **prefixed("conditioner.embedders.1.model.", open_clip_names(second)),
    }


def save_shapes(path: Path, shapes: dict, metadata: dict | None = None, **numbers) -> Path:
    """A file in half precision with a true header and holes where its numbers would be.

    Args:
        shapes: Tensor to its shape.
        numbers: Tensors that have numbers, by name with `.` written `__`.
    """
    held = {key.replace("__", "."): tensor.half() for key, tensor in numbers.items()}
    header, end = {"__metadata__": metadata} if metadata else {}, 0
    for name, shape in {**shapes, **{key: tensor.shape for key, tensor in held.items()}}.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in held.items():
            file.seek(8 + len(text) + header[name]["data_offsets"][0])
            file.write(tensor.numpy().tobytes())
        file.truncate(8 + len(text) + end)
    return path
