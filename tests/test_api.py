"""The Python doors: the same names as the command line, any table, pictures in memory."""

import inspect
import subprocess
import sys
import typing

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import sdbatch
from sdbatch import api
from sdbatch.cli import bench as bench_command
from sdbatch.cli import models_fetch as fetch_command
from sdbatch.cli import models_list as list_command
from sdbatch.cli import models_where as where_command
from sdbatch.cli import plan as plan_command
from sdbatch.cli import render as render_command
from sdbatch.errors import JobError, ManifestRowsError, ModelError
from sdbatch.results import RenderedImage

DISPLAY = {"as_json", "progress", "log_format", "yes"}
INLINE = {"engine": "inline", "model": "fake", "size": "64x64"}


@pytest.mark.parametrize(
    ("command", "options"),
    [(render_command.command, api.RenderOptions), (plan_command.command, api.Options)],
)
def test_every_flag_is_a_parameter_of_the_same_name_and_no_more(command, options):
    flags = {param.name for param in command.params} - DISPLAY
    parameters = set(typing.get_type_hints(options)) | {"manifest", "out"}

    assert flags == parameters


def test_every_flag_of_bench_is_a_parameter_of_the_same_name_and_no_more():
    flags = {param.name for param in bench_command.command.params} - DISPLAY

    assert flags == set(inspect.signature(api.bench).parameters) - {"report"}


@pytest.mark.parametrize(
    ("command", "door"),
    [
        (fetch_command.command, api.fetch_model),
        (list_command.command, api.list_models),
        (where_command.command, api.where_model),
    ],
)
def test_every_flag_of_models_is_a_parameter_of_the_same_name_and_no_more(command, door):
    flags = {param.name for param in command.params} - DISPLAY

    assert flags == set(inspect.signature(door).parameters) - {"report"}


def test_the_public_names_are_loaded_lazily():
    code = (
        "import sys, sdbatch\n"
        "assert not {'pyarrow', 'torch', 'ray', 'numpy'} & set(sys.modules)\n"
        "assert callable(sdbatch.render)\n"
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert set(sdbatch.__all__) == {
        "__version__", "bench", "export", "fetch_model", "grid", "list_models", "load_model",
        "open_dataset", "plan", "preview", "push", "render", "repair", "report", "retry", "score",
        "where_model",
    }  # fmt: skip
    assert all(hasattr(sdbatch, name) for name in sdbatch.__all__)


ROWS = [{"prompt": f"p{i}", "seed": i, "tag": f"t{i}"} for i in range(6)]


def as_hf():
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_list(ROWS)


@pytest.mark.parametrize(
    "make",
    [lambda: ROWS, lambda: pa.Table.from_pylist(ROWS), lambda: pd.DataFrame(ROWS), as_hf],
    ids=["dicts", "arrow", "pandas", "datasets"],
)
def test_a_manifest_may_be_any_table_and_is_kept_with_the_run(make, tmp_path):
    out = tmp_path / "out"
    api.render(make(), out, **INLINE)
    again = api.render(make(), out, **INLINE)

    table = api.open_dataset(out).to_table(["prompt", "seed", "tag"])
    assert table.to_pylist() == ROWS
    assert len(list((out / "__sdbatch" / "main" / "manifest").iterdir())) == 1
    assert again.exit_code == 0


def test_a_plan_says_what_a_run_would_do(manifest):
    report = api.plan(manifest(100), shard_size=10, **INLINE)

    assert (report.rows, report.images, report.shards) == (100, 100, 10)
    assert report.settings["shards.size"].source == "--shard-size"


def test_a_stream_yields_pictures_of_any_mix_of_settings():
    model = api.load_model("fake")
    rows = [{"prompt": "a", "width": 64, "height": 64}, "b", {"prompt": "c", "seed": 7}]
    images = list(model.stream(rows))

    assert sorted(image.row.prompt for image in images) == ["a", "b", "c"]
    assert {image.row.seed for image in images if image.row.prompt == "c"} == {7}
    assert all(image.pixels.dtype == np.uint8 for image in images)


def test_a_stream_takes_rows_lazily():
    taken = []

    def endless():
        for i in range(10**9):
            taken.append(i)
            yield f"prompt {i}"

    stream = api.load_model("fake").stream(endless())
    first = [next(stream) for _ in range(3)]

    assert all(isinstance(image, RenderedImage) for image in first)
    assert len(taken) < 100


def test_a_stream_refuses_a_row_that_cannot_be_drawn():
    with pytest.raises(ManifestRowsError, match="num_inference_steps"):
        list(api.load_model("fake").stream([{"prompt": "a", "num_inference_steps": 0}]))


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(ModelError, match="shapes"):
        api.load_model("shaps")


def test_a_dataset_tells_its_status_files_and_errors(manifest, tmp_path):
    options = INLINE | {"model": "fake:fail=0.2"}
    api.render(manifest(100), tmp_path / "out", **options)
    dataset = api.open_dataset(tmp_path / "out")

    status = dataset.status()
    assert status.state == "done_with_failures"
    assert status.success == dataset.to_table().num_rows
    assert status.failed == dataset.errors().num_rows > 0
    assert len(dataset.files()) == status.shards
    assert dataset.verify(3).exit_code == 0


def test_resolved_seeds_are_those_of_the_manifest(tmp_path):
    api.render(ROWS, tmp_path / "out", **INLINE)

    assert api.open_dataset(tmp_path / "out").to_table(["seed"])["seed"].to_pylist() == [*range(6)]


@pytest.mark.parametrize("door", ["render", "plan"])
def test_a_misspelt_option_is_refused_with_the_nearest_name(door, tmp_path):
    args = (ROWS, tmp_path / "o") if door == "render" else (ROWS,)

    with pytest.raises(JobError, match="num_inference_steps"):
        getattr(api, door)(*args, num_inference_step=3)


def test_every_door_opens_again_and_again_whatever_was_imported_before(tmp_path):
    code = (
        "import sdbatch, sdbatch.render.fake, sdbatch.plan.seeds\n"
        "options = dict(model='fake', engine='inline', size='64x64')\n"
        "for n in '12':\n"
        f"    out = {str(tmp_path)!r} + '/' + n\n"
        "    sdbatch.render([{'prompt': n}], out, **options)\n"
        "    sdbatch.plan([{'prompt': n}], **options)\n"
        "    sdbatch.open_dataset(out)\n"
        "    list(sdbatch.load_model('fake').stream([n]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
