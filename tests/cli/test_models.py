"""`sdbatch models`: fetched before they are needed, listed, found; and runs that fetch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sdbatch import api
from sdbatch.cli import progress
from sdbatch.cli.main import main
from sdbatch.engine.model_fetch import Fetching
from sdbatch.errors import ModelError
from sdbatch.render.weights.fetched_model import Need
from sdbatch.render.weights.model_facts import find_model
from tests.render.fake_hub import asked_here

SHAPES = Path(__file__).parents[2] / "sdbatch" / "models" / "shapes"
NAME = "org/shapes"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with asked_here(tmp_path / "home", monkeypatch) as server:
        server.repo(NAME, SHAPES)
        yield server


@pytest.fixture
def moved(hub, tmp_path):
    """Moves the main branch on; returns the new commit."""

    def move():
        later = shutil.copytree(SHAPES, tmp_path / "later")
        (later / "words.txt").write_text("later")
        return hub.repos[NAME].push(later)

    return move


@pytest.fixture
def run(capsys):
    def call(*argv):
        with pytest.raises(SystemExit) as ended:
            main(argv)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return call


def weights_sent(hub):
    return [file for file in hub.downloads() if file.endswith(".safetensors")]


def test_a_model_is_fetched_and_its_folder_printed(hub, run):
    code, out, err = run("models", "fetch", NAME)

    assert code == 0
    assert (Path(out.strip()) / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert "9.3 MB to fetch into" in err
    assert "here after" in err


def test_a_model_that_is_here_is_found_and_one_that_is_not_exits_2(hub, run):
    assert run("models", "where", NAME)[0] == 2
    fetched = run("models", "fetch", NAME)[1]
    asked = len(hub.requests)

    assert run("models", "where", NAME) == (0, fetched, "")
    assert run("models", "where", "shapes")[1].strip() == str(SHAPES)
    assert len(hub.requests) == asked
    code, _, err = run("models", "where", NAME, "--revision", "v9")
    assert code == 2
    assert f"not whole on this machine: sdbatch models fetch {NAME}@v9" in err


def test_fetching_again_takes_what_a_branch_stands_for_now(hub, run, moved):
    run("models", "fetch", NAME)
    sent = len(weights_sent(hub))
    new = moved()

    assert Path(run("models", "where", NAME)[1].strip()).name != new
    assert Path(run("models", "fetch", NAME)[1].strip()).name == new
    assert Path(run("models", "where", NAME)[1].strip()).name == new
    assert len(weights_sent(hub)) == sent, "equal weights are not sent again"


def test_a_list_says_what_lies_here(hub, run, tmp_path):
    shutil.copytree(SHAPES, tmp_path / "mine" / "copied")
    (tmp_path / "mine" / "old.ckpt").write_bytes(b"pickle")
    run("models", "fetch", NAME)
    find_model(f"{NAME}", Need(weights=False))

    code, out, _ = run("models", "list", "--json", "--models-dir", str(tmp_path / "mine"))
    found = {model["name"]: model for model in json.loads(out)["models"]}
    assert code == 0
    assert {name: model["kind"] for name, model in found.items()} == {
        "shapes": "embedded", "copied": "folder", "old.ckpt": "pickle", NAME: "hub",
    }  # fmt: skip
    assert found[NAME]["refs"] == ["main"]
    assert found[NAME]["whole"]
    assert found[NAME]["last_used"]
    assert "never loaded" in run("models", "list", "--models-dir", str(tmp_path / "mine"))[1]


def test_a_list_says_what_is_not_whole(hub, run):
    find_model(NAME, Need(weights=False))

    assert "not whole, fetch it again" in run("models", "list")[1]


def test_a_gated_model_is_one_line(hub, run):
    hub.repos[NAME].access = "gated"
    code, out, err = run("models", "fetch", NAME)

    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"accept its licence at {hub.endpoint}/{NAME}" in err


def test_a_plan_says_what_would_be_fetched_and_fetches_no_weights(hub, run):
    code, out, _ = run("plan", "--model", NAME, "--prompt", "a")

    assert code == 0
    assert f"model {NAME}: 9.3 MB to fetch into" in out
    assert weights_sent(hub) == []


def test_a_run_fetches_first_and_goes_on_with_the_planned_commit(hub, run, moved, tmp_path):
    commit = hub.repos[NAME].branches["main"]
    options = ("--engine", "inline", "--steps", "1", "--progress", "plain")
    rows = tmp_path / "rows.txt"
    rows.write_text("a red circle\na blue square\n")
    code, _, err = run("render", str(rows), str(tmp_path / "out"), "--model", NAME, *options)
    assert code == 0
    assert "9.3 MB to fetch into" in err
    settings = api.open_dataset(tmp_path / "out").store
    job = json.loads(Path(settings.url, "__sdbatch", "main", "job.json").read_text())
    assert job["resolved"]["model.revision"] == commit

    new = moved()
    run("models", "fetch", NAME)
    asked = len(hub.requests)
    code, _, err = run("render", str(rows), str(tmp_path / "out"), "--model", NAME, *options)
    assert (code, len(hub.requests)) == (0, asked)
    assert find_model(NAME).revision == new


def test_a_revision_may_stand_in_the_name_or_beside_it_but_not_both(hub):
    with pytest.raises(ModelError, match="--revision"):
        api.fetch_model(f"{NAME}@main", revision="v2")
    with pytest.raises(ModelError, match="no org/name on the Hub"):
        api.fetch_model("./folder", revision="v2")


def test_looking_needs_neither_torch_nor_ray():
    code = (
        "import sys\n"
        "for name in ('torch', 'ray', 'diffusers', 'transformers'): sys.modules[name] = None\n"
        "from sdbatch.cli.main import main\n"
        "main(['models', sys.argv[1], *sys.argv[2:]])\n"
    )
    for command in (["list"], ["where", "shapes"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("kind", [progress.PlainReporter, progress.JsonReporter])
def test_a_fetch_is_told_every_few_seconds(kind, capsys):
    clock = Clock()
    shown = kind(clock)
    for second in range(20):
        clock.now = second
        shown.fetching(Fetching("org/name", 100_000_000 * second, 4_000_000_000))

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    if kind is progress.JsonReporter:
        assert json.loads(lines[0])["bytes_per_s"] == 100_000_000
    else:
        assert lines[0].startswith("fetching org/name 500.0 MB of 4.0 GB 12% 100.0 MB/s here ")


def test_a_bar_of_bytes_stands_in_for_that_of_pictures_meanwhile(monkeypatch):
    monkeypatch.setattr(progress, "_on_a_terminal", lambda: True)
    with progress.reporter("rich") as bar:
        bar.fetching(Fetching("org/name", 1_000_000, 4_000_000))
        pictures, fetch = bar._bar.tasks
        assert (pictures.visible, fetch.completed, fetch.total) == (False, 1_000_000, 4_000_000)
        assert str(progress.Count().render(fetch)) == "1.0 MB/4.0 MB"
        assert fetch.fields["phase"] == "fetching org/name"
        bar.fetching(Fetching("org/name", 4_000_000, 4_000_000))
        assert [task.visible for task in bar._bar.tasks] == [True]
