"""Published architectures by name, and what is refused."""

import json
from importlib import resources
from pathlib import Path

import pytest

from sdbatch.errors import ModelError
from sdbatch.render.architecture import (
    architecture_names,
    find_architecture,
    folder_architecture,
)
from sdbatch.render.weights.model_facts import find_model

SHIPPED = Path(str(resources.files("sdbatch"))) / "render" / "architectures"


@pytest.mark.parametrize(
    ("name", "size", "guidance", "scheduler"),
    [
        ("sd15", (512, 512), 7.5, "PNDMScheduler"),
        ("sd21", (768, 768), 7.5, "DDIMScheduler"),
        ("sdxl", (1024, 1024), 5.0, "EulerDiscreteScheduler"),
        ("shapes", (64, 64), 3.0, "DPMSolverMultistepScheduler"),
    ],
)
def test_an_architecture_says_its_sizes_and_defaults(name, size, guidance, scheduler):
    found = find_architecture(name)

    assert (found.defaults.width, found.defaults.height) == size
    assert found.defaults.guidance_scale == guidance
    assert found.defaults.scheduler == scheduler


def test_every_shipped_architecture_names_its_source():
    files = list(SHIPPED.glob("*.json"))

    assert {path.stem for path in files} == {"sd15", "sd21", "sdxl"}
    for path in files:
        assert "huggingface.co/" in json.loads(path.read_text())["source"]


@pytest.mark.parametrize("name", ["sd3-medium", "flux", "sana"])
def test_a_model_whose_shapes_do_not_ship_is_refused_in_one_line(name):
    with pytest.raises(ModelError) as caught:
        find_architecture(name)

    assert str(caught.value) == (
        f"--arch {name}: its shapes do not ship, use sd15, sd21, sdxl, shapes"
    )


def test_an_unknown_architecture_names_the_nearest():
    with pytest.raises(ModelError, match="did you mean 'sd15'"):
        find_architecture("sd1.5")


def test_the_embedded_model_has_one_architecture_by_either_way(shapes):
    assert find_architecture("shapes") == folder_architecture("shapes", Path(shapes.path))
    assert find_architecture("shapes").defaults == find_model("shapes").defaults
    assert architecture_names() == ["sd15", "sd21", "sdxl", "shapes"]


def test_a_folder_with_a_broken_configuration_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text("{")

    with pytest.raises(ModelError, match="cannot read its configuration"):
        folder_architecture("mine", tmp_path)
