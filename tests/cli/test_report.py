"""`sdbatch report` and `sdbatch grid` as a person meets them."""

import inspect
import json

import pytest

from sdbatch import api
from sdbatch.cli import grid as grid_command
from sdbatch.cli import report as report_command
from tests.cli.test_main import run
from tests.engine.runs import INLINE


@pytest.fixture
def out(manifest, tmp_path):
    source = manifest(12, style=["ink", "oil"] * 6, kind=["a", "b", "c"] * 4)
    api.render(source, tmp_path / "out", **INLINE, model="fake")
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("command", "door"),
    [(report_command.command, api.report), (grid_command.command, api.grid)],
    ids=["report", "grid"],
)
def test_every_flag_is_a_parameter_of_the_same_name_and_no_more(command, door):
    flags = {param.name for param in command.params} - {"as_json"}

    assert flags == set(inspect.signature(door).parameters)


def test_a_page_is_written_where_the_command_runs(out, tmp_path):
    done = run("report", out, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("report.html: 12 of 12 pictures")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    body = json.loads(run("report", out, "--max-pictures", "5", "--json", cwd=tmp_path).stdout)
    assert (body["shown"], body["pictures"]) == (5, 12)


def test_a_grid_is_written_with_an_index_of_its_pages(out, tmp_path):
    done = run("grid", out, "--x", "style", "--y", "kind", cwd=tmp_path)
    pages = run("grid", out, "--x", "style", "--page", "kind", "--out", "g.png", cwd=tmp_path)

    assert done.stdout == "grid.png: 2 x 3 cells\n"
    assert pages.stdout.splitlines() == [
        f"g-{n}.png: 2 x 1 cells: {k}" for n, k in enumerate("abc", 1)
    ]


@pytest.mark.parametrize(
    ("args", "right"),
    [
        (["report", "nowhere"], "holds no run"),
        (["report", "nowhere", "--max-mb", "0"], "--max-mb 0"),
        (["grid", "nowhere", "--x", "style"], "holds no run"),
        (["grid", "nowhere"], "--x"),
    ],
    ids=" ".join,
)
def test_bad_input_gets_one_line_and_exit_2(args, right, tmp_path):
    done = run(*args, cwd=tmp_path)

    assert done.returncode == 2, done.stderr
    assert right in done.stderr
    assert "Traceback" not in done.stderr
