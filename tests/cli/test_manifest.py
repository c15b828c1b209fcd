"""`sdbatch manifest`: looked up without torch, read by people and by machines."""

import json
import subprocess
import sys

HEAVY = (
    "import sys; sys.modules.update(torch=None, ray=None, diffusers=None, transformers=None)\n"
    "from sdbatch.cli.main import main\nmain(sys.argv[1:])\n"
)


def manifest(*args):
    return subprocess.run(
        [sys.executable, "-c", HEAVY, "manifest", *args], capture_output=True, text=True
    )


def test_schedulers_are_listed_without_torch_those_that_draw_first():
    done = manifest("schedulers")
    lines = done.stdout.splitlines()

    assert done.returncode == 0, done.stderr
    assert lines[0].split() == ["scheduler", "kind", "way", "history", "also", "called"]
    row = next(line for line in lines if line.startswith("DPMSolverMultistepScheduler "))
    assert row.split()[1:4] == ["diffusion", "tabled", "2"]
    assert "DPMSolverMultistep, DPM++ 2M, k_dpmpp_2m, dpmsolver++" in row
    assert row.endswith("grouped with thresholding true")
    ways = [line.split()[2] for line in lines[1:]]
    assert ways == sorted(ways, key=lambda way: way == "unfit")
    assert any(line.endswith("runs from a picture to noise") for line in lines)


def test_schedulers_are_listed_for_machines():
    found = {row["scheduler"]: row for row in json.loads(manifest("schedulers", "--json").stdout)}

    assert found["DDIMScheduler"] == {
        "scheduler": "DDIMScheduler",
        "aliases": ["DDIM"],
        "variants": {},
        "kind": "diffusion",
        "way": "tabled",
        "flow_models": False,
        "history": 1,
        "grouped_with": {"clip_sample": True, "thresholding": True},
        "reason": "",
    }
    assert found["FlowMatchEulerDiscreteScheduler"]["way"] == "unfit"
    assert found["FlowMatchEulerDiscreteScheduler"]["flow_models"]
    assert found["DPMSolverMultistepScheduler"]["flow_models"]
    assert "flow-matching" in found["FlowMatchEulerDiscreteScheduler"]["reason"]


def test_a_slip_names_the_nearest_and_exits_2():
    done = manifest("shedulers")

    assert done.returncode == 2
    assert "schedulers" in done.stderr


def test_help_names_every_command_and_each_has_its_own():
    from sdbatch.cli.manifest import COMMANDS

    text = manifest("--help").stdout

    assert all(f"  {name} " in text for name in COMMANDS)
    for name in COMMANDS:
        assert manifest(name, "--help").returncode == 0


def write(path, **columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return str(path)


def test_a_check_shows_the_first_problems_counts_all_and_writes_all_down(tmp_path):
    import pyarrow.parquet as pq

    path = write(tmp_path / "rows.parquet", prompt=["a"] * 30, width=[100] * 30)
    report = str(tmp_path / "errors.parquet")
    done = manifest("check", path, "--report", report)
    lines = done.stdout.splitlines()

    assert done.returncode == 2
    assert lines[0].startswith(f"{path}, row 0, column 'width': 100: must be a multiple of 8")
    assert lines[20:] == ["... and 10 more; --report FILE writes all", "30 problems in 30 rows"]
    assert pq.read_metadata(report).num_rows == 30


def test_a_check_of_good_rows_says_so_also_to_machines(tmp_path):
    path = write(tmp_path / "rows.parquet", prompt=["a red circle"] * 3)

    assert "3 rows, 3 images: every row can be drawn" in manifest("check", path).stdout
    found = json.loads(manifest("check", path, "--json").stdout)
    assert (found["rows"], found["total"], found["problems"]) == (3, 0, [])


def test_rows_and_columns_are_shown(tmp_path):
    path = write(tmp_path / "rows.parquet", prompt=["a", "b", "c"], mood=["x", None, "z"])

    shown = json.loads(manifest("show", path, "--from", "1", "--rows", "5", "--json").stdout)
    assert shown == [
        {"row": 1, "values": {"prompt": "b"}},
        {"row": 2, "values": {"prompt": "c", "mood": "z"}},
    ]
    assert "row 0\n  prompt: a\n  mood: x" in manifest("show", path).stdout
    assert [line.split() for line in manifest("show", path, "--columns").stdout.splitlines()] == [
        ["prompt", "string", "read"],
        ["mood", "string", "passed", "through"],
    ]
    assert manifest("show", path, "--from", "3").returncode == 2


def test_statistics_shuffles_splits_and_differences_are_commands(tmp_path):
    path = write(tmp_path / "rows.parquet", prompt=[f"fox number {i}" for i in range(10)])
    other = str(tmp_path / "shuffled.parquet")

    assert json.loads(manifest("stats", path, "--json").stdout)["rows"] == 10
    assert "10 rows, 1 columns" in manifest("stats", path).stdout
    assert manifest("shuffle", path, other, "--seed", "3").returncode == 0
    assert manifest("shuffle", path, other).returncode == 2
    assert json.loads(manifest("diff", path, other, "--json").stdout)["same"] == 10
    assert "new 0 / changed 0 / same 10 / gone 0" in manifest("diff", path, other).stdout
    halves = str(tmp_path / "halves")
    assert "val.parquet: 2 rows" in manifest(
        "split", path, halves, "--train", "0.8", "--val", "0.2"
    ).stdout  # fmt: skip
    assert manifest("split", path, halves, "--parts", "2", "--val", "0.5").returncode == 2
    assert manifest("split", path, halves).returncode == 2


def test_the_commands_read_what_render_reads_aliases_and_lines_too(tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("a red circle\na blue star\n")
    path = write(tmp_path / "rows.parquet", caption=["a red circle", "a blue star"])

    assert json.loads(manifest("diff", str(lines), path, "--json").stdout)["same"] == 2
    assert json.loads(manifest("stats", path, "--json").stdout)["words"] == {"3-5": 2}
    assert "  prompt: a red circle" in manifest("show", str(lines)).stdout
