"""What may be traced: prompts as `render` draws them, rows as they were drawn, and no more."""

import pytest
from PIL import Image

from sdbatch import api
from sdbatch.dataset.images import pixel_sha256
from sdbatch.errors import InputError, ManifestRowsError, StorageError


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        ("a", {"model": "fake"}, "draws without latents"),
        ("000000003_000", {}, "say with --from which dataset"),
        ("3", {"dataset": "out", "seed": 5}, "--seed: 3 is drawn as it was"),
        ("3", {"dataset": "out", "num_inference_steps": 5}, "--steps: 3 is drawn as it was"),
        ("3", {"dataset": "nowhere"}, "holds no run"),
    ],
)
def test_a_trace_of_nothing_is_refused_in_a_line(prompt, options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        api.trace(prompt, **options)

    assert not list(tmp_path.iterdir())


def test_a_row_with_several_pictures_must_say_which(manifest, tmp_path):
    api.render(
        manifest(2), tmp_path / "o", model="fake", engine="inline", num_images_per_prompt=2,
        size="64x64",
    )  # fmt: skip
    with pytest.raises(InputError, match="name one of 000000001_000 to 000000001_001"):
        api.trace("1", dataset=tmp_path / "o")


@pytest.mark.render
def test_impossible_settings_are_refused_as_in_a_manifest(tmp_path):
    with pytest.raises(ManifestRowsError, match="num_inference_steps"):
        api.trace("a star", num_inference_steps=0, out=tmp_path / "s.png")


@pytest.mark.render
def test_a_trace_ends_with_the_picture_that_render_draws_for_the_prompt(tmp_path):
    prompt = "a large red circle on a white background"
    api.render(prompt=[prompt], out=tmp_path / "o", engine="inline", num_inference_steps=6)

    traced = api.trace(prompt, num_inference_steps=6, frames=4, out=tmp_path / "strip.png")

    stored = api.open_dataset(tmp_path / "o").to_table(["pixel_sha256", "seed"]).to_pylist()[0]
    assert traced.row.seed == stored["seed"]
    assert pixel_sha256(traced.pixels) == stored["pixel_sha256"]
    assert [frame.call for frame in traced.frames] == [1, 3, 4, 6]
    with Image.open(tmp_path / "strip.png") as strip:
        assert strip.width > 4 * 168
    assert "prompt" in traced.to_dict()["row"]


@pytest.mark.render
def test_a_stored_row_is_traced_and_replayed_as_it_was_drawn(tmp_path):
    rows = [
        {"prompt": "a red circle", "scheduler": "EulerAncestralDiscreteScheduler", "seed": 5},
        {"prompt": "a blue star", "negative_prompt": "red", "num_inference_steps": 5},
        {"prompt": "a heart", "guidance_scale": 1.0, "scheduler": "DDIMScheduler", "width": 32},
    ]
    api.render(rows, tmp_path / "o", engine="inline", num_inference_steps=4, shard_size=1)
    dataset = api.open_dataset(tmp_path / "o")
    hashes = dict(zip(*dataset.to_table(["key", "pixel_sha256"]).to_pydict().values(), strict=True))

    report = dataset.replay(range(3))
    traced = [
        api.trace(key, dataset=tmp_path / "o", frames=2, out=tmp_path / "strip.png")
        for key in hashes
    ]

    assert report.exit_code == 0
    assert not [picture.changes for picture in report.pictures if picture.changes]
    assert [pixel_sha256(each.pixels) for each in traced] == list(hashes.values())


@pytest.mark.render
def test_a_strip_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="name a place that can be written"):
        api.trace("a star", num_inference_steps=2, out=tmp_path / "file" / "strip.png")
