"""One command makes the whole model; small steps are enough to see that it does."""

import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from sdbatch.models.train import command

SMALL = ["--batch", "2", "--pool", "1", "--judged", "2", "--threads", "1"]
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True, scope="module")
def _as_before():
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def _train(*options):
    return CliRunner().invoke(command, [*SMALL, *map(str, options)])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "made"
    done = _train("--folder", folder, "--steps", 2)
    assert done.exit_code == 0, done.output
    return folder


@pytest.mark.render
def test_the_folder_it_makes_is_a_stable_diffusion_pipeline(made):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(made / "model", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a red circle", num_inference_steps=2).images[0]

    assert image.size == (64, 64)
    size = sum(path.stat().st_size for path in (made / "model").rglob("*") if path.is_file())
    assert size < 10e6


def test_the_folder_says_nothing_of_where_it_was_made(made):
    for path in (made / "model").rglob("*.json"):
        assert str(made) not in path.read_text(), path
    assert "shape" in (made / "model/words.txt").read_text().split()


def test_its_log_has_a_measurement_of_every_part(made):
    lines = [json.loads(line) for line in (made / "log.jsonl").read_text().splitlines()]

    assert [line["part"] for line in lines] == ["text", "vae", "decoder", "judge", "unet"]
    assert all(line["step"] == 2 for line in lines)
    assert {"core", "shape_1"} <= set(lines[-1])


def test_a_finished_training_is_not_begun_again_by_accident(made):
    done = _train("--folder", made, "--steps", 2, "--part", "vae")

    assert done.exit_code == 2
    assert "--resume goes on" in done.output


def test_the_same_steps_give_the_same_weights_interrupted_or_not(made, tmp_path):
    common = ("--part", "unet", "--start", made / "parts")
    for folder, legs in (("whole", (3,)), ("legs", (1, 3))):
        (tmp_path / folder / "pool").parent.mkdir()
        (tmp_path / folder / "pool").symlink_to(made / "pool")
        for number, steps in enumerate(legs):
            again = ["--resume"] if number else []
            done = _train("--folder", tmp_path / folder, *common, "--steps", steps, *again)
            assert done.exit_code == 0, done.output

    whole, legs = (
        load_file(tmp_path / folder / "parts/unet/diffusion_pytorch_model.safetensors")
        for folder in ("whole", "legs")
    )
    began = load_file(made / "parts/unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(whole[name], legs[name]) for name in whole)
    assert any(not torch.equal(whole[name], began[name]) for name in whole)


def test_two_trainings_of_the_same_steps_end_alike(made, tmp_path):
    ends = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        done = _train("--folder", folder, "--part", "text", "--steps", 2)
        assert done.exit_code == 0, done.output
        ends.append(load_file(folder / "parts/text_encoder/model.safetensors"))
    first = load_file(made / "parts/text_encoder/model.safetensors")

    for name, weight in first.items():
        assert torch.equal(weight, ends[0][name])
        assert torch.equal(weight, ends[1][name])


def test_how_long_must_be_said_once(tmp_path):
    for options in ((), ("--steps", 1, "--minutes", 1)):
        done = _train("--folder", tmp_path, *options)
        assert done.exit_code == 2
        assert "one of --steps and --minutes" in done.output
