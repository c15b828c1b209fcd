"""`sdbatch retry` as it is typed: counts, exit codes, one line for each refusal, real kills."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
import typing

import pytest

from sdbatch import api
from sdbatch.cli import repair as repair_command
from sdbatch.cli import retry as retry_command
from sdbatch.cli.main import main
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import open_store
from tests.engine.reworks import ENGINE, failures, is_exact, spoil, spoilt, table
from tests.engine.runs import INLINE

DISPLAY = {"as_json", "progress", "log_format"}
INLINE_FLAGS = ["--engine", "inline"]


def run(*args):
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in args])
    return ended.value.code


@pytest.fixture
def out(manifest, tmp_path, monkeypatch):
    return spoilt(manifest, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("command", "door"), [(retry_command.command, api.retry), (repair_command.command, api.repair)]
)
def test_every_flag_is_a_parameter_of_the_same_name_and_no_more(command, door):
    flags = {param.name for param in command.params} - DISPLAY
    own = set(inspect.signature(door).parameters) - {"report", "options"}

    assert flags == own | set(typing.get_type_hints(api.ReworkOptions))


def test_a_retry_prints_what_it_did(out, capsys):
    code = run("retry", out, *INLINE_FLAGS, "--json", "--progress", "plain")

    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert code == summary["exit_code"] == 0
    assert {summary[name] for name in ("retried", "now_success")} == {4}
    assert (summary["success"], summary["failed"], summary["still_failed"]) == (40, 0, 0)
    assert "retry: 4 failed pictures in 3 shards" in said.err
    assert "retried 4 pictures: 4 now success, 0 still failed" in said.err
    assert is_exact(out)


def test_rows_that_fail_again_exit_four_unless_they_are_allowed(out, monkeypatch, capsys):
    spoil(monkeypatch, {4: "OtherError"})

    assert run("retry", out, *INLINE_FLAGS) == 4
    assert run("retry", out, *INLINE_FLAGS, "--allow-failed", "1") == 0
    assert failures(out) == {4: "OtherError"}


def test_nothing_to_retry_exits_zero(out, capsys):
    run("retry", out, *INLINE_FLAGS)
    capsys.readouterr()

    assert run("retry", out, *INLINE_FLAGS) == 0
    assert "nothing to retry" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--error-type", "NoError"], "there are: OneError 2, OtherError 2"),
        (["--only", "filtered"], "add --reseed 1"),
        (["--set", "seed=3"], "the plan of"),
    ],
)
def test_a_refusal_is_one_line_and_exit_two(out, flags, words, capsys):
    code = run("retry", out, *INLINE_FLAGS, "--json", *flags)

    said = capsys.readouterr()
    assert code == 2
    assert words in said.err
    assert said.err.count("\n") == 1
    assert json.loads(said.out)["exit_code"] == 2


def test_help_names_only_flags_that_leave_the_plan_alone(capsys):
    assert run("retry", "--help") == 0
    shown = capsys.readouterr().out

    assert "--reseed" in shown
    assert not {"--steps", "--seed ", "--dtype", "--limit", "--prompt"} & set(shown.split())


COMMAND = """
import os, sys, threading, time
from sdbatch.render.fake import FakeRenderer
real = FakeRenderer._draw
def draw(self, row, lanes):
    time.sleep(0.1)
    return real(self, row, lanes)
FakeRenderer._draw = draw
from sdbatch.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_that_is_ended_in_the_middle_is_followed_by_the_same_line(
    manifest, tmp_path, monkeypatch, number
):
    faults = dict.fromkeys([3, *range(10, 20), 25, 38], "OneError")
    out = spoilt(manifest, tmp_path, monkeypatch, faults=faults, model="fake:lanes=1")
    rows = table(out)
    line = ["retry", str(out), *INLINE_FLAGS]
    driver = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *line], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    record = out / "__sdbatch" / "main" / "commits" / "000" / "00000.r1.json"
    deadline = time.monotonic() + 60
    while not record.exists() and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(driver.pid, number)
    driver.communicate(timeout=60)

    assert driver.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 75)
    assert RunFolder(open_store(out)).open_rework() is not None
    assert api.open_dataset(out).verify(1).exit_code == 75
    summary = api.retry(out, **ENGINE)

    assert (summary.exit_code, summary.success, summary.retried) == (0, 40, 13)
    after = table(out)
    assert {index: after[index] for index in rows} == rows
    assert is_exact(out)


def test_a_run_with_json_report_says_why_it_was_refused(manifest, tmp_path, capsys):
    api.render(manifest(3), tmp_path / "out", model="fake", **INLINE)
    code = run("retry", tmp_path / "nowhere", "--json")

    assert code == 2
    assert "holds no run" in json.loads(capsys.readouterr().out)["reason"]


@pytest.mark.parametrize("command", ["retry", "repair"])
def test_the_help_says_whose_exit_code_it_is_and_what_is_finished_first(command, capsys):
    assert run(command, "--help") == 0

    said = " ".join(capsys.readouterr().out.split())
    assert "4 pictures of the dataset failed (also when there was nothing to do)" in said
    assert "An unfinished retry or repair, whoever began it, is finished first." in said
