"""The house itself: sizes, walls, pins. A wall that nobody checks is a drawing."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for top in ("sdbatch", "tests") for path in (ROOT / top).rglob("*.py"))
TOP_LEVEL = {"LICENSE", "README.md", "pyproject.toml", "sdbatch", "jobs", "cluster", "tests"}
TOP_LEVEL |= {"manifests"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_of_the_package_is_longer_than_60_lines(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and "sdbatch" in path.relative_to(ROOT).parts:
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


def test_the_top_level_is_closed():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in listed}

    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def _pins() -> dict[str, str]:
    lines = (ROOT / "cluster" / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_dependency_is_pinned_and_no_pin_is_of_one_machine():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pins = {name.lower().replace("_", "-"): pin for name, pin in _pins().items()}

    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9_-]+", requirement).group().lower().replace("_", "-")
        assert name in pins, requirement
    assert not [pin for pin in pins.values() if "+" in pin or "/" in pin or "@" in pin]


READING = ("manifest", "dataset", "engine", "audit", "transfer", "report")


@pytest.mark.parametrize("room", READING)
def test_no_parquet_is_read_ahead_by_threads_that_abort_a_process_that_ends(room):
    """Arrow's threads give buffers of Python back late; the interpreter may be gone by then."""
    for path in sorted((ROOT / "sdbatch" / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called != "pq.read_table", f"{path}:{node.lineno}: its scanner has threads"
            if called == "pq.ParquetFile":
                said = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert said.get("pre_buffer") == "False", f"{path}:{node.lineno}"


HEAVY = "import sys; sys.modules.update(torch=None, ray=None, diffusers=None, transformers=None)\n"


@pytest.mark.parametrize(
    "module",
    [
        "sdbatch",
        "sdbatch.api",
        "sdbatch.cli.main",
        "sdbatch.cli.render",
        "sdbatch.cli.plan",
        "sdbatch.cli.status",
        "sdbatch.cli.stop",
        "sdbatch.cli.report",
        "sdbatch.cli.grid",
        "sdbatch.cli.preview",
        "sdbatch.cli.errors",
        "sdbatch.cli.logs",
        "sdbatch.cli.verify",
        "sdbatch.cli.gc",
        "sdbatch.cli.export",
        "sdbatch.cli.push",
        "sdbatch.cli.files",
        "sdbatch.cli.replay",
        "sdbatch.cli.trace",
        "sdbatch.cli.bench",
        "sdbatch.engine.bench_run",
        "sdbatch.cli.manifest",
        "sdbatch.cli.manifest_check",
        "sdbatch.cli.manifest_diff",
        "sdbatch.cli.manifest_show",
        "sdbatch.cli.manifest_shuffle",
        "sdbatch.cli.manifest_split",
        "sdbatch.cli.manifest_stats",
        "sdbatch.engine.worker",
        "sdbatch.engine.inline_engine",
    ],
)
def test_a_module_outside_the_render_rooms_imports_without_torch_or_ray(module):
    done = subprocess.run(
        [sys.executable, "-c", HEAVY + f"import {module}"], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_every_module_says_what_it_is():
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] == "sdbatch":
            assert ast.get_docstring(ast.parse(path.read_text())), path
