"""How columns are shown is part of a plan, and said by it."""

import json

import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.errors import InputError
from sdbatch.manifest.published import json_schema


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("Caption,CFG,sha256\na red circle,2.5,x\n")
    return path


def test_a_plan_says_which_column_is_read_as_what(manifest):
    report = api.plan(manifest, passthrough_prefix="in_")

    assert report.to_dict()["columns"] == {"Caption": "prompt", "CFG": "guidance_scale"}
    assert "columns: 'Caption' is prompt, 'CFG' is guidance_scale" in report.describe()
    assert report.settings["manifest.passthrough_prefix"].source == "--passthrough-prefix"


def test_a_column_of_the_datasets_name_needs_the_prefix(manifest):
    with pytest.raises(InputError, match="set --passthrough-prefix in_"):
        api.plan(manifest)
    with pytest.raises(InputError, match="'in-': must begin a name"):
        api.plan(manifest, passthrough_prefix="in-")


@pytest.mark.render
def test_a_run_of_text_is_resumed_under_its_own_columns(manifest, tmp_path):
    options = {"num_inference_steps": 1, "size": "32x32", "engine": "inline"}
    out = tmp_path / "out"
    summary = api.render(
        manifest, out, passthrough_prefix="in_", keep_source_columns=True, canary=False, **options
    )
    assert summary.exit_code == 0

    again = api.render(manifest, out, **options)
    assert again.exit_code == 0
    table = pq.read_table(next((out / "data").glob("*.parquet")))
    assert table.select(["prompt", "guidance_scale", "in_CFG", "in_sha256"]).to_pylist() == [
        {"prompt": "a red circle", "guidance_scale": 2.5, "in_CFG": 2.5, "in_sha256": "x"}
    ]
    body = json.loads((out / "__sdbatch/main/job.json").read_text())
    assert body["notes"][0] == "columns: 'Caption' is prompt, 'CFG' is guidance_scale"
    with pytest.raises(InputError, match="passthrough_prefix: was in_, now my_"):
        api.render(manifest, out, passthrough_prefix="my_", **options)


def test_published_columns_hold_their_aliases():
    columns = json_schema()["properties"]

    assert "cfg_scale" in columns["guidance_scale"]["x-aliases"]
    assert columns["prompt"]["type"] == "string"
