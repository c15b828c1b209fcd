"""The model inside the package: real, loadable by others, and drawn as it draws alone."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sdbatch import api
from sdbatch.render.weights.model_facts import find_model

pytestmark = [pytest.mark.render, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A dataset of a few shapes, and one row drawn alone by diffusers' own pipeline."""
    from tests.conftest import ROOT

    out = tmp_path_factory.mktemp("shapes") / "out"
    manifest = str(ROOT / "manifests" / "shapes.parquet")
    summary = api.render(manifest, out, engine="inline", limit=12, shard_size=5)
    return out, summary


def test_the_default_model_draws_the_shipped_manifest(drawn):
    out, summary = drawn

    assert summary.exit_code == 0
    assert summary.success == 12
    assert api.open_dataset(out).verify(3).exit_code == 0


def test_a_row_of_the_dataset_is_what_the_plain_pipeline_draws(drawn):
    import torch
    from diffusers import StableDiffusionPipeline

    out, _ = drawn
    row = pq.read_table(api.open_dataset(out).files()[1]).to_pylist()[2]
    pipe = StableDiffusionPipeline.from_pretrained(find_model("shapes").path, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    alone = pipe(
        row["prompt"], num_inference_steps=row["num_inference_steps"],
        guidance_scale=row["guidance_scale"], height=row["height"], width=row["width"],
        generator=torch.Generator().manual_seed(row["seed"]),
    ).images[0]  # fmt: skip

    ours = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).astype(int)
    assert np.abs(ours - np.asarray(alone).astype(int)).max() <= 1


def test_prompts_of_another_world_get_one_warning_with_words_and_a_real_model(tmp_path, report):
    rows = ["a photo of an astronaut riding a horse", "ein Hund", "a red circle"]
    api.render([{"prompt": p} for p in rows], tmp_path / "o", engine="inline", report=report)

    warnings = [line for line in report.lines if line.startswith("warning:")]
    assert len(warnings) == 1
    assert "circle" in warnings[0]
    assert "--model" in warnings[0]


def test_prompts_of_its_own_world_get_none(drawn, shapes):
    assert not [note for note in api.plan(shapes).notes if "warning" in note]


@pytest.mark.parametrize("prompt", ["", "猫と犬 🙂", "red " * 500, "\u202eevil <b>&"])
def test_any_prompt_is_drawn(prompt, tmp_path):
    out = tmp_path / "o"
    api.render([{"prompt": prompt}], out, engine="inline", num_inference_steps=2)

    row = api.open_dataset(out).to_table().to_pylist()[0]
    assert row["prompt"] == prompt
    assert row["prompt_truncated"] == (len(prompt) > 1000)


def test_a_stream_of_mixed_settings_gives_the_pixels_of_the_run(drawn):
    out, _ = drawn
    stored = api.open_dataset(out).to_table(["prompt", "seed", "pixel_sha256"]).to_pylist()
    from sdbatch.dataset.images import pixel_sha256

    rows = [
        {"prompt": stored[3]["prompt"], "seed": stored[3]["seed"]},
        {"prompt": "a star", "scheduler": "DDIM", "num_inference_steps": 5, "guidance_scale": 1.0},
        {"prompt": "a heart", "scheduler": "EulerDiscreteScheduler", "guidance_scale": 6.0},
    ]
    images = {image.row.row_index: image for image in api.load_model().stream(rows)}

    assert set(images) == {0, 1, 2}
    assert pixel_sha256(images[0].pixels) == stored[3]["pixel_sha256"]


def test_partiprompts_can_be_planned_as_shipped():
    from tests.conftest import ROOT

    report = api.plan(str(ROOT / "manifests" / "partiprompts.parquet"))

    assert report.rows == 1632
    assert any("words" in note for note in report.notes)
