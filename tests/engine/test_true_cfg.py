"""`true_cfg_scale` from a manifest's column to the dataset and back, and who is refused it."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from PIL import Image

from sdbatch import api
from sdbatch.engine.budgets import read_speed
from sdbatch.errors import InputError, JobError
from sdbatch.manifest.importers.infotext_rows import infotext_row
from sdbatch.manifest.reader import open_manifest
from sdbatch.manifest.shape import manifest_shape
from sdbatch.render.weights.model_facts import find_model
from tests.engine.runs import pictures
from tests.render.tiny_models import save_flux

pytestmark = pytest.mark.render

ROWS = [
    {"prompt": "a red circle", "guidance_scale": 2.5, "num_inference_steps": 2},
    {"prompt": "a blue square", "true_cfg_scale": 3.1, "num_inference_steps": 2},
]
INLINE = {"engine": "inline", "size": "32x32", "canary": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_flux(tmp_path_factory.mktemp("flux") / "tiny"))


@pytest.fixture(scope="module")
def drawn(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn") / "out"
    api.render(ROWS, out, model=folder, negative_prompt="dull", **INLINE)
    return api.open_dataset(out)


def test_the_dataset_of_such_a_model_has_the_column_beside_guidance(drawn):
    names = pq.read_schema(drawn.files()[0]).names

    assert names[names.index("guidance_scale") + 1] == "true_cfg_scale"
    table = drawn.to_table(["prompt", "guidance_scale", "true_cfg_scale"]).to_pylist()
    assert [round(row["true_cfg_scale"], 4) for row in table] == [1.0, 3.1]
    assert [row["guidance_scale"] for row in table] == [2.5, 3.5]


def test_a_stored_picture_is_drawn_again_with_it(drawn):
    report = drawn.replay([0, 1])

    assert [one.equal for one in report.pictures] == [True, True]


def test_pictures_say_both_kinds_of_guidance_as_forge_does_and_are_read_so(drawn):
    found = pictures(drawn.store.url)
    text = Image.open(io.BytesIO(found[1, 0][0]["image"]["bytes"])).info["parameters"]

    row = infotext_row(text)

    assert "CFG scale: 3.1, Distilled CFG Scale: 3.5" in text
    assert (row["true_cfg_scale"], row["guidance_scale"]) == (3.1, 3.5)


def test_two_lanes_are_planned_where_it_is_above_one(folder, manifest):
    usual = find_model(folder).defaults
    rows = open_manifest(
        manifest(4, true_cfg_scale=[None, 1.0, 1.1, 0.0], guidance_scale=[9.0] * 4)
    )

    works = [manifest_shape(rows, None, replace(usual, true_cfg_scale=x)).work for x in (1.0, 4.0)]

    steps = usual.num_inference_steps
    assert [list(work // steps) for work in works] == [[1, 1, 2, 1], [2, 1, 2, 1]]


def test_a_benchmark_of_told_guidance_counts_one_lane(tmp_path):
    record = {"num_inference_steps": 10, "guidance_scale": 3.5, "width": 8, "height": 8}
    record["measured"] = [{"images_per_s": 2.0}]
    file = tmp_path / "speed.json"
    speeds = []
    for true_cfg in (None, 1.0, 2.0):
        file.write_text(json.dumps(record | {"true_cfg_scale": true_cfg}))
        speeds.append(read_speed(file).work_per_s)

    assert speeds == [2560.0, 1280.0, 2560.0]


def test_a_default_for_all_rows_comes_from_the_flag(folder):
    plan = api.plan(["a"], model=folder, true_cfg_scale=2.0, **INLINE).to_dict()

    assert plan["settings"]["defaults.true_cfg_scale"]["value"] == 2.0
    assert plan["settings"]["defaults.true_cfg_scale"]["source"] == "--true-cfg-scale"


@pytest.mark.parametrize("model", ["fake", "shapes"])
def test_a_model_that_is_told_no_guidance_refuses_it_and_takes_what_changes_nothing(model):
    with pytest.raises(InputError, match=r"row 0, column 'true_cfg_scale': 2.0: .*guidance_scale"):
        api.plan([{"prompt": "a", "true_cfg_scale": 2.0}], model=model)
    with pytest.raises(JobError, match=r"^--true-cfg-scale: .*is guided by guidance_scale"):
        api.plan(["a"], model=model, true_cfg_scale=2.0)

    plain, neutral = (
        api.plan([{"prompt": "a", **more}], model=model).to_dict()
        for more in ({}, {"true_cfg_scale": 1.0})
    )
    said = api.plan([{"prompt": "a"}], model=model, true_cfg_scale=1.0).to_dict()
    assert plain["plan_id"] == said["plan_id"]
    assert neutral["settings"]["defaults.true_cfg_scale"]["value"] is None


def test_below_zero_is_refused(folder):
    with pytest.raises(InputError, match=r"true_cfg_scale.*0 or more"):
        api.plan([{"prompt": "a", "true_cfg_scale": -1.0}], model=folder)
    with pytest.raises(JobError, match="true_cfg_scale"):
        api.plan(["a"], model=folder, true_cfg_scale=-1.0)


def test_a_dataset_of_another_model_has_no_such_column(tmp_path):
    api.render([{"prompt": "a"}], tmp_path / "out", model="fake", **INLINE)
    dataset = api.open_dataset(tmp_path / "out")

    assert "true_cfg_scale" not in pq.read_schema(dataset.files()[0]).names


def test_a_note_says_what_guidance_means(folder):
    assert find_model(folder).notes[0] in api.plan(["a"], model=folder, **INLINE).to_dict()["notes"]
