"""The embedded model, loaded once."""

from __future__ import annotations

import json

import diffusers
import pytest
import torch

from sdbatch.model_specs import RenderSpec
from sdbatch.records import ModelFacts
from sdbatch.render.loading import load_renderer
from sdbatch.render.renderer import LaneRenderer
from sdbatch.render.schedulers import scheduler_setting
from sdbatch.render.weights.model_facts import find_model


@pytest.fixture(scope="session")
def shapes() -> ModelFacts:
    return find_model("shapes")


@pytest.fixture(scope="session")
def load(shapes):
    def load_with(**lanes: int) -> LaneRenderer:
        sizes = {name.lstrip("p"): count for name, count in lanes.items()}
        spec = RenderSpec("shapes", shapes.path, shapes.revision, "auto", sizes, 1)
        return load_renderer(spec, [])  # type: ignore[return-value]

    return load_with


@pytest.fixture(scope="session")
def renderer(load) -> LaneRenderer:
    return load(p32x32=4, p40x32=4, p64x64=4)


@pytest.fixture(scope="session")
def pipeline(shapes):
    """`draw(row)` -> latents of StableDiffusionPipeline for that row alone."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(shapes.path, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    config = dict(pipe.scheduler.config)

    def draw(row):
        overrides = json.loads(row.scheduler_config or "{}")
        setting = scheduler_setting(row.scheduler, config, overrides, row.num_inference_steps)
        pipe.scheduler = getattr(diffusers, row.scheduler).from_config(dict(setting.config))
        return pipe(
            row.prompt,
            negative_prompt=row.negative_prompt or None,
            width=row.width_px,
            height=row.height_px,
            num_inference_steps=row.num_inference_steps,
            guidance_scale=row.guidance_scale,
            generator=torch.Generator().manual_seed(row.seed),
            output_type="latent",
        ).images[0]

    return draw


@pytest.fixture
def spoil(renderer, monkeypatch):
    def replace(model):
        monkeypatch.setattr(renderer, "_noise_model", model)
        monkeypatch.setattr(renderer, "out_of_memory", 0)
        return model

    return lambda make: replace(make(renderer._noise_model))
