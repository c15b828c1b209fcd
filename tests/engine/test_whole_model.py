"""A model that is drawn whole goes through plan, render, replay and trace like any other."""

import pyarrow as pa
import pyarrow.dataset as arrow
import pyarrow.parquet as parquet
import pytest

import sdbatch
from sdbatch import api
from sdbatch.engine.bench import BenchAsk, plan_bench
from sdbatch.engine.trace import trace_with
from sdbatch.errors import InputError, JobError, ManifestError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.loading import load_renderer
from tests.render.drawing import make_row
from tests.render.tiny_pipelines import save_ddpm, save_dit, save_hunyuan


@pytest.fixture(scope="module")
def hunyuan(tmp_path_factory):
    return str(save_hunyuan(tmp_path_factory.mktemp("hunyuan") / "model"))


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory):
    return str(save_ddpm(tmp_path_factory.mktemp("ddpm") / "model"))


def manifest(folder, **columns):
    path = folder / "prompts.parquet"
    parquet.write_table(pa.table(columns), path)
    return str(path)


def test_rows_without_words_are_drawn_and_drawn_again_to_the_bit(tmp_path, ddpm):
    rows = manifest(tmp_path, prompt=["", "ignored", ""], seed=[1, 2, 3])
    out = tmp_path / "out"
    summary = sdbatch.render(rows, str(out), model=ddpm, num_inference_steps=2, engine="inline")
    assert (summary.success, summary.failed) == (3, 0)
    table = arrow.dataset(out / "data").to_table().to_pydict()
    assert set(table["pipeline_class"]) == {"DDPMPipeline"}
    assert table["image_width"] == [16] * 3
    assert len(set(table["pixel_sha256"])) == 3
    report = api.open_dataset(out).replay([0, 2])
    assert [picture.equal for picture in report.pictures] == [True, True]


def test_a_class_that_nobody_knows_fails_alone(tmp_path):
    model = str(save_dit(tmp_path / "model"))
    rows = manifest(tmp_path, prompt=["goldfish", "goldfisch"], num_inference_steps=[2, 2])
    out = tmp_path / "out"
    summary = sdbatch.render(rows, str(out), model=model, engine="inline", allow_failed="1")
    assert (summary.success, summary.failed) == (1, 1)
    (failed,) = arrow.dataset(out / "errors").to_table().to_pylist()
    assert failed["error_message"].endswith("the nearest is 'goldfish'")


def test_a_plan_says_that_rows_share_calls(tmp_path, hunyuan):
    rows = manifest(tmp_path, prompt=["a", "b"])
    plan = sdbatch.plan(rows, model=hunyuan, size="32x32")
    assert any("is drawn by calling HunyuanDiTPipeline" in note for note in plan.notes)
    assert plan.settings["defaults.guidance_scale"].source == "pipeline HunyuanDiTPipeline"
    assert not any("in groups of equal settings" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"compile": True}, "--compile: render.compile: True: this model is drawn without it"),
        ({"settings": ["render.lossy=deepcache:2"]}, "this model takes none"),
        ({"settings": ["render.attention=sdpa"]}, "drawn with auto alone"),
        ({"memory": "offload"}, "drawn with auto or resident alone"),
        ({"prompt_syntax": "a1111"}, "drawn with plain alone"),
        ({"size": "40x40"}, "must be a multiple of 16"),
    ],
)
def test_what_a_whole_pipeline_cannot_honour_is_refused_in_plan(tmp_path, hunyuan, options, fault):
    rows = manifest(tmp_path, prompt=["a"])
    with pytest.raises(JobError, match=fault):
        sdbatch.plan(rows, model=hunyuan, **{"size": "32x32", **options})


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("guidance_scale", 3.0, "drawn with 1.0 alone"),
        ("negative_prompt", "blurred", "takes none, leave it empty"),
        ("width", 32, "drawn with 16 alone"),
        ("scheduler", "EulerDiscreteScheduler", "DDPMPipeline is written for DDPMScheduler"),
        ("prompt_syntax", "a1111", "drawn with plain alone"),
    ],
)
def test_what_a_row_cannot_ask_of_a_pipeline_is_refused_in_plan(
    tmp_path, ddpm, column, value, fault
):
    rows = manifest(tmp_path, prompt=["", ""], **{column: [value, None]})
    with pytest.raises(ManifestError, match=fault) as raised:
        sdbatch.plan(rows, model=ddpm)
    assert raised.value.row == 0


def test_rows_that_say_what_the_pipeline_does_anyway_are_drawn(tmp_path, ddpm):
    said = {"guidance_scale": [1.0], "negative_prompt": [""], "width": [16], "height": [16]}
    assert sdbatch.plan(manifest(tmp_path, prompt=["a"], **said), model=ddpm).rows == 1


def test_a_whole_pipeline_has_no_latents_to_trace(tmp_path, ddpm):
    renderer = load_renderer(RenderSpec("m", ddpm, "", "auto", {}, 1), [])
    with pytest.raises(InputError, match="no latents to look at"):
        trace_with(renderer, make_row(), "m", tmp_path / "strip.png")


def test_bench_names_the_way_to_measure_a_whole_pipeline(ddpm):
    with pytest.raises(InputError, match=r"DDPMPipeline is called whole.*plan --probe"):
        plan_bench(BenchAsk(model=ddpm))
