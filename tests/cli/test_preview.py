"""`sdbatch preview` as a person meets it."""

import json

from sdbatch import api
from sdbatch.cli import preview as command
from tests.cli.test_main import run


def test_every_flag_is_a_parameter_of_the_same_name_and_no_more():
    flags = {param.name for param in command.command.params} - {"as_json"}

    assert flags == set(api.Options.__annotations__) | {"manifest", "rows", "out"}


def test_a_sheet_is_drawn_and_the_rest_is_timed(manifest, tmp_path):
    source = manifest(40)
    done = run("preview", source, "-n", "4", "--model", "fake", "--size", "64x64", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "sheet.png: 4 of 4 rows drawn" in done.stdout
    assert "the whole run: 40 images" in done.stdout
    assert (tmp_path / "sheet.png").exists()


def test_machines_read_the_same(manifest, tmp_path):
    args = ("preview", manifest(9), "-n", "2", "--model", "fake", "--out", "s.png", "--json")
    body = json.loads(run(*args, cwd=tmp_path).stdout)

    assert (body["file"], body["drawn"], body["images"]) == ("s.png", 2, 9)


def test_a_manifest_that_cannot_be_drawn_gets_one_line_and_exit_2(tmp_path):
    done = run("preview", "nowhere.parquet", "--model", "fake", cwd=tmp_path)

    assert done.returncode == 2
    assert "nowhere.parquet" in done.stderr
    assert "Traceback" not in done.stderr
