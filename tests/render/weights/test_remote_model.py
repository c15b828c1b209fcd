"""A model in a bucket is fetched once, appears whole, and is known by what the store says."""

from __future__ import annotations

import _thread
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest
from huggingface_hub import constants

from sdbatch.errors import InputError, ModelError, ModelUnreachableError
from sdbatch.remote import file_system
from sdbatch.render.weights import fetching, remote_model
from sdbatch.render.weights.fetched_model import Need, is_fetched, lying, newest_lying
from sdbatch.render.weights.model_facts import find_model
from sdbatch.render.weights.remote_model import remote_home
from tests.storage import servers

ROOT = Path(__file__).parents[3]
SHAPES = ROOT / "sdbatch" / "models" / "shapes"
URL = "memory://models/shapes"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    return tmp_path


@pytest.fixture
def bucket(home):
    """The embedded model in a bucket of this process."""
    fs = fsspec.filesystem("memory")
    fs.put(str(SHAPES), "/models/shapes", recursive=True)
    yield fs
    fs.rm("/models", recursive=True)


@pytest.fixture
def counted(monkeypatch):
    """What is asked of the store, by name."""
    asked = []

    def look(url, options=None):
        asked.append(url)
        return file_system(url, options)

    monkeypatch.setattr(remote_model, "file_system", look)
    return asked


def test_a_model_in_a_bucket_becomes_a_folder_named_by_its_revision(bucket):
    facts = find_model(URL)

    assert Path(facts.path).name == facts.revision
    assert is_fetched(facts.revision)
    weights = Path("unet/diffusion_pytorch_model.safetensors")
    assert (Path(facts.path) / weights).read_bytes() == (SHAPES / weights).read_bytes()
    assert not (Path(facts.path) / "README.md").exists()


def test_a_planned_revision_that_lies_here_is_used_without_a_question(bucket, counted):
    facts = find_model(URL)
    counted.clear()

    assert find_model(URL, Need(revision=facts.revision)).path == facts.path
    assert lying(URL, Need(revision=facts.revision)).folder == Path(facts.path)
    assert newest_lying(URL).revision == facts.revision
    assert counted == []


def test_a_plan_needs_no_weights(bucket):
    facts = find_model(URL, Need(weights=False))

    assert facts.missing_bytes == facts.size_bytes > 9_000_000
    assert not list(Path(facts.path).rglob("*.safetensors"))
    assert find_model(URL, Need(revision=facts.revision)).missing_bytes == 0


def test_a_changed_file_is_another_revision_and_no_planned_one(bucket):
    before = find_model(URL)
    bucket.pipe_file("/models/shapes/words.txt", b"other words of another length")

    now = find_model(URL)
    assert now.revision != before.revision
    shutil.rmtree(before.path)
    with pytest.raises(ModelError, match="has changed since the plan was made"):
        find_model(URL, Need(revision=before.revision))


def test_a_transfer_that_falls_short_leaves_nothing(bucket, monkeypatch):
    def short(self, source, target, **_):
        Path(target).write_bytes(b"half")

    monkeypatch.setattr(type(bucket), "get_file", short)

    with pytest.raises(ModelUnreachableError, match="bytes arrived"):
        find_model(URL, Need())

    assert [path.name for path in remote_home(URL).iterdir() if path.is_dir()] == []


def test_what_a_killed_fetch_left_is_cleared_away(bucket):
    facts = find_model(URL)
    left = remote_home(URL) / f".{facts.revision}.dead.part"
    shutil.move(facts.path, left)

    assert find_model(URL).path == facts.path
    assert not left.exists()


def test_ctrl_c_ends_a_fetch_at_once_and_leaves_nothing(bucket, monkeypatch):
    def slow(rpath, lpath, callback):
        Path(lpath).write_bytes(b"0")
        _thread.interrupt_main()
        for _ in range(600):
            callback.relative_update(1)
            time.sleep(0.05)

    monkeypatch.setattr(bucket, "get_file", slow)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        find_model(URL)

    assert time.monotonic() - started < 10
    assert [path.name for path in remote_home(URL).iterdir()] == [".lock"]


def test_a_disk_without_room_is_said(bucket, monkeypatch):
    monkeypatch.setattr(fetching, "free_bytes", lambda folder: 1_000_000)

    with pytest.raises(ModelUnreachableError, match=r"needs 9\.\d MB"):
        find_model(URL)


@pytest.mark.parametrize("url", ["memory://models/none", "memory://"])
def test_an_address_without_a_model_is_said(bucket, url):
    with pytest.raises(ModelError, match="no model_index") as caught:
        find_model(url)

    assert "\n" not in str(caught.value)


def test_a_secret_in_an_address_is_refused_and_not_shown(home):
    with pytest.raises(InputError) as caught:
        find_model("s3://AKIAIOSFODNN7EXAMPLE:verysecretverysecret@bucket/model")

    assert "verysecret" not in str(caught.value)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An S3 server."""
    with servers.running("s3", tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def served(server, monkeypatch):
    """The embedded model on it, in a folder of its own."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    url = f"{server.url()}/shapes"
    fs, root = file_system(url)
    fs.put(str(SHAPES), root, recursive=True)
    return url


FIND = "from sdbatch.render.weights.model_facts import find_model; print(find_model({url!r}).path)"


@pytest.mark.stores
def test_two_processes_fetch_a_model_from_s3_once(served, home):
    environment = {**os.environ, "HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FIND.format(url=served)]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    paths = {process.communicate(timeout=60)[0].strip() for process in both}

    assert len(paths) == 1
    (path,) = paths
    assert (Path(path) / "vae" / "diffusion_pytorch_model.safetensors").is_file()
    assert find_model(served).path == path
    assert {one.name for one in Path(path).parent.iterdir() if one.is_dir()} >= {Path(path).name}
    assert not list(Path(path).parent.glob(".*.part"))


@pytest.mark.stores
def test_a_killed_fetch_from_s3_leaves_no_folder_of_that_name(served, home):
    code = (
        "import time\n"
        "from sdbatch.render.weights import remote_model\n"
        "get = remote_model._fill\n"
        "def fill(bucket, files, *rest):\n"
        "    if any(file.endswith('.safetensors') for file in files):\n"
        "        get(bucket, files[:-1], *rest); print('here', flush=True); time.sleep(60)\n"
        "    get(bucket, files, *rest)\n"
        "remote_model._fill = fill\n"
    ) + FIND.format(url=served)
    environment = {**os.environ, "HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().strip() == "here"
    process.kill()
    process.wait()
    here = (home / "assets" / "sdbatch" / "remote").glob("*/tags-*")
    assert [path.suffix for path in here] == [".small"]

    started = time.monotonic()
    assert find_model(served).missing_bytes == 0
    assert time.monotonic() - started < 30, "the lock of the dead is free"
