"""Scorers with random weights, made in milliseconds and saved as their makers would."""

import functools
import shutil
from importlib import resources
from pathlib import Path

import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import save_file

from sdbatch.render.diffusers_folder import quiet

SIDE, WIDTH = 32, 8
LAYER = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION = LAYER | {"image_size": SIDE, "patch_size": 8}


def seeded(make):
    """Make weights that are the same every time, and leave the generator as it was."""

    @functools.wraps(make)
    def made(*args, seed=0, **options):
        with torch.random.fork_rng(), quiet():
            torch.manual_seed(seed)
            return make(*args, **options)

    return made


def tokenizer_folder():
    return Path(str(resources.files("sdbatch"))) / "models/shapes/tokenizer"


def clip_config():
    text = LAYER | {"max_position_embeddings": 16, "vocab_size": 890, "eos_token_id": 889}
    return transformers.CLIPConfig(
        text_config=text | {"projection_dim": WIDTH},
        vision_config=VISION | {"projection_dim": WIDTH},
        projection_dim=WIDTH,
    )


def save_images(folder, kind=transformers.CLIPImageProcessorPil):
    size = {"height": SIDE, "width": SIDE}
    crop = {"size": {"shortest_edge": SIDE}, "crop_size": size}
    kind(**(crop if "CLIP" in kind.__name__ else {"size": size})).save_pretrained(folder)


@seeded
def make_clip(folder):
    transformers.CLIPModel(clip_config()).save_pretrained(folder)
    save_images(folder)
    shutil.copytree(tokenizer_folder(), folder, dirs_exist_ok=True)
    return folder


@seeded
def make_siglip(folder):
    text = LAYER | {"max_position_embeddings": 16, "vocab_size": 890, "projection_size": 16}
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    transformers.SiglipModel(config).save_pretrained(folder)
    save_images(folder, transformers.SiglipImageProcessorPil)
    shutil.copytree(tokenizer_folder(), folder, dirs_exist_ok=True)
    return folder


@seeded
def make_checker(folder, threshold=0.0):
    config = clip_config()
    config._attn_implementation = "eager"
    model = StableDiffusionSafetyChecker(config)
    for name in ("concept_embeds", "special_care_embeds"):
        torch.nn.init.normal_(getattr(model, name))
    for name in ("concept_embeds_weights", "special_care_embeds_weights"):
        torch.nn.init.constant_(getattr(model, name), threshold)
    model.save_pretrained(folder)
    save_images(folder)
    return folder


@seeded
def make_aesthetic(folder, *, pickled=False):
    make_clip(folder)
    shapes = {0: (4, WIDTH), 2: (3, 4), 4: (1, 3)}
    head = {f"layers.{at}.weight": torch.randn(*shape) for at, shape in shapes.items()}
    head |= {f"layers.{at}.bias": torch.randn(shape[0]) for at, shape in shapes.items()}
    if pickled:
        torch.save(head, folder / "sac+logos+ava1-l14-linearMSE.pth")
    else:
        save_file(head, folder / "aesthetic.safetensors")
    return head
