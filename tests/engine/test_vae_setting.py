"""A run with another autoencoder: in its plan by revision, refused where it contradicts one."""

import shutil

import diffusers
import pytest
import torch

from sdbatch import api
from sdbatch.dataset.images import pixel_sha256
from sdbatch.errors import ModelError, PlanChangedError
from tests.render.one_file import VAE, save_tiny_sd

INLINE = {"engine": "inline", "size": "16x16", "num_inference_steps": 2, "dtype": "float32"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny_sd(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("vae") / "other"
    diffusers.AutoencoderKL(**VAE).save_pretrained(folder)
    return folder


def run(model, out, **options):
    return api.render([{"prompt": "a"}, {"prompt": "b"}], out, model=model, **INLINE, **options)


def test_a_run_with_another_vae_is_another_plan_and_other_requests(model, other, tmp_path):
    run(model, tmp_path / "own")
    run(model, tmp_path / "other", vae=str(other))

    own, changed = (api.open_dataset(tmp_path / name) for name in ("own", "other"))
    columns = ["row_hash", "pixel_sha256", "model_revision"]
    was, now = own.to_table(columns).to_pylist(), changed.to_table(columns).to_pylist()
    assert was[0]["model_revision"] == now[0]["model_revision"]
    assert was[0]["row_hash"] != now[0]["row_hash"]
    assert was[0]["pixel_sha256"] != now[0]["pixel_sha256"]

    report = changed.replay(["000000000_000"])
    assert report.pictures[0].equal
    assert not report.pictures[0].changes


def test_the_plan_shows_it_and_a_resume_goes_on_with_it(model, other, tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    planned = api.plan(rows, tmp_path / "out", model=model, vae=str(other), **INLINE)
    assert planned.settings["vae"].value == str(other)
    assert planned.settings["vae.revision"].source == f"vae {other}"

    run(model, tmp_path / "out", vae=str(other), limit=None)
    again = api.plan(rows, tmp_path / "out", model=model, **INLINE)
    assert again.standing
    assert again.settings["vae.revision"].value == planned.settings["vae.revision"].value
    with pytest.raises(PlanChangedError, match=r"vae\.revision"):
        api.plan(rows, tmp_path / "out", model=model, vae=model, **INLINE)


def test_a_resume_that_names_the_vae_alone_holds_it_against_the_planned_model(
    model, other, tmp_path
):
    run(model, tmp_path / "out", vae=str(other))
    moved = shutil.copytree(other, tmp_path / "moved")

    again = api.plan([{"prompt": "a"}, {"prompt": "b"}], tmp_path / "out", vae=str(moved), **INLINE)

    assert again.standing
    assert (again.settings["model"].value, again.settings["vae"].value) == (model, str(moved))


def test_the_card_names_it_and_says_nothing_of_it_where_there_is_none(model, other, tmp_path):
    run(model, tmp_path / "own")
    run(model, tmp_path / "other", vae=str(other))

    own, changed = ((tmp_path / name / "README.md").read_text() for name in ("own", "other"))
    assert "| vae" not in own
    assert "| vae |" in changed


def test_one_that_does_not_fit_is_refused_in_plan(other, tmp_path):
    with pytest.raises(ModelError, match="not the 4 of model shapes"):
        api.plan([{"prompt": "a"}], tmp_path / "out", vae=str(other))


def test_a_loaded_model_draws_with_it_and_its_requests_are_those_of_a_run(model, other, tmp_path):
    rows, drawn = [{"prompt": "a", "seed": 7}], {"vae": str(other), "batch_size": 4}
    api.render(rows, tmp_path / "out", model=model, **INLINE, **drawn)
    stored = api.open_dataset(tmp_path / "out").to_table(["row_hash", "pixel_sha256"]).to_pylist()
    loaded = api.load_model(model, dtype="float32", **drawn)

    (image,) = loaded.stream([rows[0] | {"width": 16, "height": 16, "num_inference_steps": 2}])
    assert image.row.row_hash == stored[0]["row_hash"]
    assert pixel_sha256(image.pixels) == stored[0]["pixel_sha256"]
