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
    assert lines[0].split() == ["scheduler", "alias", "kind", "way", "history"]
    row = next(line for line in lines if line.startswith("DPMSolverMultistepScheduler "))
    assert row.split()[1:5] == ["DPMSolverMultistep", "diffusion", "tabled", "2"]
    assert row.endswith("grouped with thresholding true")
    ways = [line.split()[3] for line in lines[1:]]
    assert ways == sorted(ways, key=lambda way: way == "unfit")
    assert any(line.endswith("runs from a picture to noise") for line in lines)


def test_schedulers_are_listed_for_machines():
    found = {row["scheduler"]: row for row in json.loads(manifest("schedulers", "--json").stdout)}

    assert found["DDIMScheduler"] == {
        "scheduler": "DDIMScheduler",
        "aliases": ["DDIM"],
        "kind": "diffusion",
        "way": "tabled",
        "history": 1,
        "grouped_with": {"clip_sample": True, "thresholding": True},
        "reason": "",
    }
    assert found["FlowMatchEulerDiscreteScheduler"]["way"] == "unfit"
    assert "flow-matching" in found["FlowMatchEulerDiscreteScheduler"]["reason"]


def test_a_slip_names_the_nearest_and_exits_2():
    done = manifest("shedulers")

    assert done.returncode == 2
    assert "schedulers" in done.stderr
