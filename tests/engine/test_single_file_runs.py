"""A checkpoint in one file from plan to replay, found by its bare name."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from sdbatch import api
from sdbatch.cli.main import sdbatch
from sdbatch.errors import ModelError, PlanChangedError
from tests.render.one_file import save_one_file, save_tiny_sd

PROMPTS = ["a red circle", "a blue square"]
HOW = {"engine": "inline", "size": "16x16", "num_inference_steps": 3, "batch_size": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    folder = save_tiny_sd(home / "folder")
    return folder, save_one_file(folder, home / "tiny.safetensors")


@pytest.fixture
def comfyui(made, tmp_path):
    """ComfyUI's folder with one checkpoint, `anime/Tiny.safetensors`."""
    _, file = made
    shelf = tmp_path / "ComfyUI/models/checkpoints/anime"
    shelf.mkdir(parents=True)
    shutil.copy(file, shelf / "Tiny.safetensors")
    shutil.copytree(file.with_suffix(".config"), shelf / "Tiny.config")
    return tmp_path / "ComfyUI"


def pixels(out):
    table = api.open_dataset(out).to_table(["prompt", "pixel_sha256"])
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


def test_a_file_draws_the_pixels_of_its_folder(made, tmp_path):
    folder, file = made
    for name, model in (("one", file), ("many", folder)):
        summary = api.render(prompt=PROMPTS, out=tmp_path / name, model=str(model), **HOW)
        assert (summary.success, summary.exit_code) == (2, 0)

    assert pixels(tmp_path / "one") == pixels(tmp_path / "many")


def test_a_bare_name_is_planned_drawn_resumed_and_replayed(comfyui, tmp_path):
    how = {**HOW, "model": "tiny", "models_dir": str(comfyui)}
    report = api.plan(prompt=PROMPTS, **how)
    assert report.settings["model"].value == "tiny"
    out = tmp_path / "out"
    api.render(prompt=PROMPTS, out=out, **how)

    assert api.render(prompt=PROMPTS, out=out, **how).exit_code == 0
    again = api.open_dataset(out).replay([0, 1])
    assert again.exit_code == 0
    moved = tmp_path / "elsewhere"
    shutil.move(comfyui / "models/checkpoints/anime", moved)
    assert api.open_dataset(out).replay([0], models_dir=str(moved)).exit_code == 0
    with pytest.raises(ModelError, match=r"model tiny: lay in .* is not on this machine"):
        api.open_dataset(out).replay([0])


def test_the_folder_of_models_is_no_matter_of_the_plan(comfyui, made, tmp_path):
    _, file = made
    by_name = api.plan(prompt=PROMPTS, model="tiny", models_dir=str(comfyui), **HOW)
    by_path = api.plan(prompt=PROMPTS, model=str(file), **HOW)

    assert by_name.plan_id == by_path.plan_id


def test_the_environment_names_a_folder_as_well(comfyui, tmp_path, monkeypatch):
    monkeypatch.setenv("SDBATCH_MODELS", str(comfyui))

    assert api.load_model("TINY").facts.name == "TINY"


def test_a_file_that_changed_since_the_plan_is_refused(comfyui, tmp_path):
    how = {**HOW, "model": "tiny", "models_dir": str(comfyui)}
    out = tmp_path / "out"
    api.render(prompt=PROMPTS, out=out, **how)
    file = comfyui / "models/checkpoints/anime/Tiny.safetensors"
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)

    with pytest.raises(ModelError, match=r"is revision \w{12}, the plan was made with \w{12}"):
        api.open_dataset(out).replay([0])
    shutil.rmtree(out / "__sdbatch/main/commits")
    for record in (out / "__sdbatch/main").glob("success*"):
        shutil.rmtree(record) if record.is_dir() else record.unlink()
    with pytest.raises(
        PlanChangedError, match=r"model\.revision: was \w{12}, now \w{12}"
    ) as caught:
        api.render(prompt=PROMPTS, out=out, **how)
    assert "\n" not in str(caught.value)


def test_a_name_in_two_folders_and_one_that_is_nearly_right_are_refused(comfyui, made):
    _, file = made
    shutil.copy(file, comfyui / "models/checkpoints/tiny.safetensors")
    shutil.copy(file, comfyui / "models/checkpoints/anime/other.safetensors")
    with pytest.raises(ModelError, match=r"could be .*name one by its path"):
        api.plan(prompt=PROMPTS, model="TINY", models_dir=str(comfyui), **HOW)

    with pytest.raises(ModelError, match=r"did you mean 'anime/other\.safetensors'"):
        api.plan(prompt=PROMPTS, model="othre", models_dir=str(comfyui), **HOW)


def test_every_command_that_takes_a_model_takes_a_folder_of_them(comfyui, tmp_path):
    where = ["--model", "tiny", "--models-dir", str(comfyui)]
    (tmp_path / "p.csv").write_text("prompt\na red circle\n")
    trace = ["trace", "a red circle", "--size", "16x16", "--steps", "2"]
    trace += ["--out", str(tmp_path / "strip.png"), *where]
    for command in (["manifest", "check", str(tmp_path / "p.csv"), *where], trace):
        result = CliRunner().invoke(sdbatch, command, standalone_mode=False)
        assert not result.exception, (command, result.exception)

    result = CliRunner().invoke(sdbatch, [*trace[:-1], str(tmp_path / "nowhere")])
    assert "--models-dir" in str(result.exception)


def test_a_plan_of_a_file_needs_no_torch(made, tmp_path):
    _, file = made
    code = (
        "import sys\n"
        "sys.modules.update(torch=None, diffusers=None, transformers=None)\n"
        "from sdbatch import api\n"
        f"report = api.plan(prompt=['a'], model={str(file)!r})\n"
        "assert report.settings['defaults.width'].value == 16\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_a_model_in_memory_draws_from_a_file(made):
    folder, file = made
    row = {"prompt": "a", "seed": 3, "width": 16, "height": 16, "num_inference_steps": 2}
    first, second = (
        next(api.load_model(str(place), batch_size=4).stream([row])) for place in (folder, file)
    )

    assert np.array_equal(first.pixels, second.pixels)
