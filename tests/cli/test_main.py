"""The command line as a person meets it: help, exit codes, one line for every mistake."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.cli.main import COMMANDS

SDBATCH = [sys.executable, "-m", "sdbatch.cli.main"]


def run(*args, stdin=None, env=None, cwd=None):
    return subprocess.run(
        [*SDBATCH, *map(str, args)], capture_output=True, text=True, input=stdin, cwd=cwd,
        env={**os.environ, **(env or {})}, timeout=100,
    )  # fmt: skip


def test_help_answers_at_once_and_loads_neither_torch_nor_ray():
    code = (
        "import sys, runpy\n"
        "sys.argv = ['sdbatch', '--help']\n"
        "try: runpy.run_module('sdbatch.cli.main', run_name='__main__')\n"
        "except SystemExit as end: assert end.code in (0, None), end.code\n"
        "heavy = {'torch', 'ray', 'diffusers', 'transformers', 'pyarrow', 'pydantic', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    fastest = min(timed_help() for _ in range(3))
    assert fastest < 0.5


def timed_help():
    started = time.monotonic()
    run("--help")
    return time.monotonic() - started


def test_help_shows_examples_groups_and_exit_codes_line_by_line():
    text = run("--help").stdout

    assert text.index("Examples:") < text.index("Draw:") < text.index("Look:")
    assert len([line for line in text.splitlines() if line.startswith("    sdbatch ")]) == 3
    assert "\n    75 stopped early or unfinished" in text
    assert "\\b" not in text
    assert "\b" not in text


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name):
    done = run(name, "--help")

    assert done.returncode == 0
    assert len(done.stdout) > 100
    assert "xit code" in done.stdout


def test_version_is_printed():
    assert run("--version").stdout.startswith("sdbatch 0.")


@pytest.fixture
def good(manifest):
    return manifest(10)


@pytest.mark.parametrize(
    ("args", "right"),
    [
        (["render", "missing.parquet", "out"], "missing.parquet: no such file"),
        (["render", "text.parquet", "out"], "Parquet"),
        (["render", "noprompt.parquet", "out"], "column 'prompt'"),
        (["render", "width.parquet", "out"], "row 3, column 'width': 65: must be a multiple of"),
        (["render", "steps.parquet", "out"], "row 5, column 'num_inference_steps': -4: must be"),
        (["render", "null.parquet", "out"], "row 2, column 'prompt'"),
        (["render", "ids.parquet", "out"], "row 4, column 'id': 'b': stands at row 1 already"),
        (
            ["render", "rows.parquet", "out", "--set", "render.dtyp=x"],
            "did you mean 'render.dtype'",
        ),
        (["render", "rows.parquet", "out", "--model", "shape"], "shapes"),
        (["render", "rows.parquet", "out", "--steps", "abc"], "'abc' is not a valid integer"),
        (["render", "rows.parquet", "out", "--steps", "-1"], "--steps: defaults.num_inference"),
        (["render", "rows.parquet", "out", "--address", "ray://h:1"], "HOST:PORT"),
        (["render", "rows.parquet", "out", "--size", "big"], "512x768"),
        (["render", "rows.parquet", "out", "--size", "65x64"], "must be a multiple of"),
        (["render", "rows.parquet", "out", "--scheduler", "DDIMM"], "nearest are DDIMScheduler"),
        (["render", "rows.parquet", "out", "--workers", "none"], "whole number from 1"),
        (["render", "rows.parquet", "out", "--job", "nojob.yaml"], "nojob.yaml: No such file"),
        (["render", "rows.parquet", "out", "--stop-after", "0"], "leaves no time to draw"),
        (["render", "rows.parquet"], "no output"),
        (["render"], "no manifest"),
        (["rendr"], "did you mean 'render'"),
        (["status", "nowhere"], "holds no run"),
        (["verify", "nowhere"], "holds no run"),
        (["status", "ftp://bucket/x"], "this version stores to"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_exit_2_and_nothing_is_written(args, right, good, tmp_path):
    write_bad_manifests(tmp_path)
    done = run(*args, cwd=tmp_path)

    said = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert len(said) == 1
    assert right in said[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def write_bad_manifests(folder):
    prompts = [f"p{i}" for i in range(10)]
    bad = {
        "noprompt": {"words": prompts},
        "width": {"prompt": prompts, "width": [64] * 3 + [65] + [64] * 6},
        "steps": {"prompt": prompts, "num_inference_steps": [5] * 5 + [-4] + [5] * 4},
        "null": {"prompt": [*prompts[:2], None, *prompts[3:]]},
        "ids": {"prompt": prompts, "id": ["a", "b", "c", "d", "b", "e", "f", "g", "h", "i"]},
    }
    for name, columns in bad.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    (folder / "text.parquet").write_text("prompt\nred circle\n" * 10)


def test_two_bad_rows_of_ten_thousand_are_both_named_within_three_seconds(tmp_path):
    steps = [20] * 10_000
    steps[4711], steps[9001] = 0, 10_001
    table = pa.table({"prompt": [f"p{i}" for i in range(10_000)], "num_inference_steps": steps})
    pq.write_table(table, tmp_path / "rows.parquet")

    started = time.monotonic()
    done = run("render", "rows.parquet", "out", cwd=tmp_path)
    seconds = time.monotonic() - started

    assert done.returncode == 2
    assert "row 4711, " in done.stderr
    assert "row 9001, " in done.stderr
    assert seconds < 3 * slowness()


def slowness():
    """How much slower than a quiet machine this one starts Python now; at least 1."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import pyarrow, pydantic"], check=True)
    return max(1.0, (time.monotonic() - started) / 0.5)


def test_an_output_that_holds_another_job_is_refused(good, tmp_path):
    out = tmp_path / "out"
    api.render(good, out, model="fake", engine="inline", size="64x64")
    done = run("render", good, out, "--seed", "5", "--engine", "inline")

    assert done.returncode == 2
    assert "seed: was 0, now 5" in done.stderr


def test_json_goes_to_stdout_alone(good, tmp_path):
    done = run("render", good, tmp_path / "o", "--model", "fake", "--engine", "inline", "--json",
               "--size", "64x64")  # fmt: skip
    summary = json.loads(done.stdout)

    assert done.returncode == summary["exit_code"] == 0
    assert summary["success"] == 10


def test_log_lines_may_be_json_down_to_the_last_error(good, tmp_path):
    args = ["render", good, tmp_path / "o", "--model", "fake", "--engine", "inline"]
    done = run(*args, "--size", "64x64", "--json", "--log-format", "json")
    refused = run(*args, "--size", "65x64", "--log-format=json")

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert json.loads(done.stdout)["exit_code"] == done.returncode == 0
    assert {line["event"] for line in lines} == {"note", "progress"}
    (said,) = [json.loads(line) for line in refused.stderr.splitlines()]
    assert (said["event"], said["exit_code"], refused.returncode) == ("error", 2, 2)


def test_json_tells_of_a_usage_error_too(tmp_path):
    done = run("render", "m.parquet", tmp_path / "o", "--steps", "abc", "--json")

    assert json.loads(done.stdout)["exit_code"] == done.returncode == 2


@pytest.mark.parametrize(
    ("stdin", "right"),
    [(b"", "no prompt on standard input"), (b"a\n\xff\n", "row 1: is no UTF")],
)
def test_lines_that_are_no_prompts_are_refused(stdin, right, tmp_path):
    done = subprocess.run(
        [*SDBATCH, "render", "-", "out"], input=stdin, capture_output=True, cwd=tmp_path
    )

    assert done.returncode == 2
    assert right in done.stderr.decode()


def test_json_tells_of_a_refusal_too(tmp_path):
    done = run("render", "missing.parquet", tmp_path / "o", "--json")

    assert json.loads(done.stdout)["exit_code"] == done.returncode == 2


def test_prompts_need_no_manifest_and_one_place_is_the_output(tmp_path):
    done = run("render", "--prompt", "a", "--prompt", "b", "--model", "fake", "--engine", "inline",
               "--size", "64x64", tmp_path / "o")  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert api.open_dataset(tmp_path / "o").to_table()["prompt"].to_pylist() == ["a", "b"]


def test_prompts_without_an_output_find_their_own_folder_again(tmp_path):
    args = ["render", "--prompt", "a", "--model", "fake", "--engine", "inline", "--size", "64x64"]
    first, second = run(*args, cwd=tmp_path), run(*args, cwd=tmp_path)

    assert first.returncode == second.returncode == 0, second.stderr
    assert "nothing to do, 1 of 1 done" in second.stderr
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_lines_on_standard_input_are_prompts(tmp_path):
    done = run("render", "-", tmp_path / "o", "--model", "fake", "--engine", "inline",
               "--size", "64x64", stdin="first\n\nsecond é\n")  # fmt: skip

    assert done.returncode == 0, done.stderr
    prompts = api.open_dataset(tmp_path / "o").to_table()["prompt"].to_pylist()
    assert prompts == ["first", "second é"]


def test_a_job_file_may_hold_everything_and_flags_override_it(good, tmp_path):
    (tmp_path / "job.yaml").write_text(
        f"manifest: {good}\noutput: {tmp_path / 'o'}\nmodel: fake\nengine: inline\n"
        "defaults:\n  num_inference_steps: 9\n  width: 64\n  height: 64\nlimit: 4\n"
    )
    done = run("render", "--job", tmp_path / "job.yaml", "--num-inference-steps", "11")

    table = api.open_dataset(tmp_path / "o").to_table()
    assert done.returncode == 0, done.stderr
    assert table["num_inference_steps"].to_pylist() == [11] * 4


def test_plan_shows_every_setting_with_its_source_and_writes_nothing(good, tmp_path):
    done = run("plan", good, "out", "--steps", "7", "--model", "fake", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    line = next(x for x in done.stdout.splitlines() if "num_inference_steps" in x)
    assert line.split()[1:] == ["7", "--steps"]
    assert "10 rows, 10 images" in done.stdout
    assert not (tmp_path / "out").exists()


def test_plan_shows_speed_switches_and_the_canary(good, tmp_path):
    args = ("--compile", "--no-canary", "--set", "render.fuse_qkv=true", "--model", "fake")
    done = run("plan", good, *args, cwd=tmp_path)

    shown = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert shown["render.compile"] == ["True", "--compile"]
    assert shown["render.fuse_qkv"] == ["True", "--set"]
    defaults = " ".join(done.stdout.partition("by default: ")[2].split())
    assert "render.attention auto, render.tf32 False" in defaults
    assert shown["canary"] == ["False", "--no-canary"]


def test_plan_json_leaves_what_a_worker_settles_null(good):
    plan = json.loads(run("plan", good, "--json").stdout)

    assert plan["settings"]["render.dtype"]["value"] is None
    assert plan["plan_id"] is None
    assert plan["rows"] == 10


HEAVY = (
    "import sys; sys.modules.update(torch=None, ray=None, diffusers=None, transformers=None)\n"
    "from sdbatch.cli.main import main\nmain(sys.argv[1:])\n"
)


@pytest.mark.parametrize("command", ["status", "errors", "logs", "stop", "verify", "plan"])
def test_looking_works_where_torch_and_ray_cannot_be_imported(command, good, tmp_path):
    out = tmp_path / "out"
    api.render(good, out, model="fake", engine="inline", size="64x64")
    args = [command, good] if command == "plan" else [command, str(out)]
    done = subprocess.run([sys.executable, "-c", HEAVY, *args], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_status_gives_the_runs_own_exit_code_only_when_asked(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(200), out, model="fake:fail=0.2", engine="inline", size="64x64")

    assert run("status", out).returncode == 0
    assert run("status", out, "--exit-code").returncode == 4
    assert json.loads(run("status", out, "--json").stdout)["state"] == "done_with_failures"


def test_verify_exits_3_on_damage(good, tmp_path):
    out = tmp_path / "out"
    api.render(good, out, model="fake", engine="inline", size="64x64")
    victim = next((out / "data").iterdir())
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)

    assert run("verify", out, "--level", "1").returncode == 0
    assert run("verify", out, "--level", "2").returncode == 3


SLOW_PLAN = """
import pathlib, sys, time
import sdbatch.api as api
from sdbatch.cli.main import main
def prepare(*args, **more):
    pathlib.Path(sys.argv[1]).touch()
    time.sleep(60)
api.prepare = prepare
main(["plan", sys.argv[2]])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_run_begins_ends_with_75_and_leaves_no_scratch(
    number, manifest, tmp_path
):
    begun, scratch = tmp_path / "begun", tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-c", SLOW_PLAN, str(begun), str(manifest(3))]
    process = subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(scratch)}, stderr=subprocess.PIPE, text=True,
        # Tests that run in the background were started deaf to SIGINT, and pass that on.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    for _ in range(600):
        if begun.exists():
            break
        time.sleep(0.05)
    assert list(scratch.iterdir())
    process.send_signal(number)
    _, said = process.communicate(timeout=30)

    assert (process.returncode, said.strip()) == (75, "sdbatch: interrupted")
    assert not list(scratch.iterdir())
