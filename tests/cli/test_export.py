"""`sdbatch export`, `push` and `files` as a person and a scheduler meet them."""

import inspect
import json
import subprocess
import sys

import pytest

from sdbatch import api
from sdbatch.cli import export as export_command
from sdbatch.cli import push as push_command
from tests.cli.test_main import HEAVY, run
from tests.transfer.exports import ledger, read, render


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("dataset") / "out"
    render(out, count=20)
    return out


@pytest.mark.parametrize(
    ("command", "door"), [(export_command, api.export), (push_command, api.push)]
)
def test_every_flag_is_a_parameter_of_the_same_name_and_no_more(command, door):
    flags = {param.name for param in command.command.params} - {"as_json"}

    assert flags == set(inspect.signature(door).parameters) - {"report"}


def test_export_says_what_it_did_and_the_second_call_that_nothing_is_new(out, tmp_path):
    first = run("export", out, tmp_path / "d", "--where", "seed < 10", "--format", "files")
    second = run("export", out, tmp_path / "d", "--json")
    said, summary = first.stdout.splitlines(), json.loads(second.stdout)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert said[0].startswith("read 20 = exported ")
    assert summary["new"] == summary["written"] == 0
    assert summary["read"] == (
        summary["exported"] + summary["left_out"] + summary["failed"] + summary["filtered"]
    )
    assert set(read(tmp_path / "d")) == {
        key for key, row in ledger(out).items() if row["seed"] < 10
    }


def test_other_terms_exit_2_with_one_line_that_names_them(out, tmp_path):
    run("export", out, tmp_path / "d")
    done = run("export", out, tmp_path / "d", "--shuffle", "--where", "seed = 1", "--json")

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--where: was nothing, now seed = 1; --shuffle: was nothing, now True" in line
    assert json.loads(done.stdout)["exit_code"] == 2


@pytest.mark.parametrize(
    ("args", "right"),
    [
        (["export", "nowhere", "d"], "holds no run"),
        (["export", "OUT", "OUT/in"], "another folder"),
        (["export", "OUT", "d", "--format", "zip"], "is not one of"),
        (["export", "OUT", "d", "--where", "sed = 1"], "seed"),
        (["export", "OUT", "d", "--split", "train=0.5"], "must be 1"),
        (["export", "OUT", "d", "--name", "{id}"], "parquet has no file for each picture"),
        (["export", "OUT", "ftp://x/d"], "this version stores to"),
        (["push", "OUT", "hf://me/x"], "write hf://datasets/USER/NAME"),
        (["files", "nowhere"], "holds no run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_exit_2_and_nothing_is_written(args, right, out, tmp_path):
    args = [part.replace("OUT", str(out)) for part in args]
    done = run(*args, cwd=tmp_path)

    assert done.returncode == 2, done.stderr
    assert right in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_files_are_those_that_readers_open(out):
    keys = run("files", out).stdout.split()
    urls = run("files", out, "--url", "--kind", "metadata").stdout.split()
    facts = [json.loads(line) for line in run("files", out, "--json").stdout.splitlines()]

    assert [str(out / key) for key in keys] == api.open_dataset(out).files()
    assert urls == api.open_dataset(out).files("metadata")
    assert [fact["key"] for fact in facts] == keys
    assert sum(fact["num_rows"] for fact in facts) == len(ledger(out))


@pytest.mark.parametrize("args", [["export", "OUT", "d"], ["files", "OUT"], ["push", "--help"]])
def test_they_work_where_torch_and_ray_cannot_be_imported(args, out, tmp_path):
    args = [part.replace("OUT", str(out)) for part in args]
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, *args], capture_output=True, text=True, cwd=tmp_path
    )

    assert done.returncode == 0, done.stderr
