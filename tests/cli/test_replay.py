"""`sdbatch replay` as a person meets it."""

import json

import pytest

from sdbatch import api
from tests.cli.test_main import run


@pytest.fixture
def out(manifest, tmp_path):
    api.render(manifest(10), tmp_path / "out", model="fake:fail=0.3", engine="inline", size="64x64")
    return tmp_path / "out"


def test_equal_pictures_exit_0_and_json_goes_to_stdout(out):
    done = run("replay", out, "0", "000000001_000", "--json")

    report = json.loads(done.stdout)
    assert done.returncode == report["exit_code"] == 0, done.stderr
    assert [picture["key"] for picture in report["pictures"]] == ["000000000_000", "000000001_000"]


def test_a_picture_that_differs_exits_4(out):
    from tests.engine.test_replay import paint, rewrite

    dataset = api.open_dataset(out)
    key = dataset.to_table(["key"])["key"][0].as_py()
    rewrite(dataset, "data", key, paint)

    done = run("replay", out, key)

    assert done.returncode == 4
    assert f"{key}  differs: PSNR" in done.stdout


@pytest.mark.parametrize(
    ("args", "right"),
    [
        (["replay", "out"], "Missing argument 'KEY...'"),
        (["replay", "out", "10"], "rows 0 to 9"),
        (["replay", "out", "x"], "must be like 000000012_000"),
        (["replay", "out", "1", "--model", "fake"], "is revision"),
        (["replay", "nowhere", "1"], "holds no run"),
    ],
    ids=" ".join,
)
def test_bad_input_gets_one_line_and_exit_2(args, right, out):
    done = run(*args, cwd=out.parent)

    assert done.returncode == 2, done.stderr
    assert right in done.stderr
    assert "Traceback" not in done.stderr
