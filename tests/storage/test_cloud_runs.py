"""Whole runs into buckets: drawn, stopped, resumed, verified and collected, secrets nowhere."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from sdbatch import api
from sdbatch.audit.gc import collect_orphans
from sdbatch.engine import inline_engine, job_folder
from sdbatch.storage import layout
from sdbatch.storage.store import open_store
from tests.engine.runs import INLINE, run_until
from tests.storage import servers

pytestmark = [pytest.mark.stores, pytest.mark.timeout(180)]
FAKE = {**INLINE, "model": "fake", "shard_size": 8}


def keys_of(out):
    store = open_store(out)
    return {info.key: store.get(info.key) for info in store.list("")}


def test_a_run_is_stopped_resumed_verified_and_collected(cloud, manifest, monkeypatch, tmp_path):
    prompts, out = manifest(rows=40), cloud.url()
    slow = {**FAKE, "model": "fake:lanes=2,ms=40"}  # seconds, so that the stop comes in time
    first = run_until(8, monkeypatch, prompts, out, **slow)
    assert first.exit_code == 75

    summary = api.render(prompts, out, **slow)
    assert (summary.exit_code, summary.done) == (0, 40)
    dataset = api.open_dataset(out)
    report = dataset.verify(2)
    assert report.exit_code == 0, report
    store = open_store(out)
    orphan = layout.data_key("data", 0, summary.images // 8, "deadbeef")
    store.put(orphan, b"left by a dead attempt")
    collect_orphans(store)
    assert store.head(orphan) is None
    assert dataset.verify(3).exit_code == 0

    local = tmp_path / "local"
    api.render(prompts, local, **slow)
    columns = ["row_index", "image_index", "pixel_sha256"]
    assert dataset.to_table(columns) == api.open_dataset(local).to_table(columns)
    assert not [key for key in keys_of(out) if "/tokens/" in key]


def test_a_manifest_in_a_bucket_is_read_in_place(cloud, manifest):
    store = cloud.open()
    store.put_file("rows.parquet", manifest(rows=20))
    summary = api.render(f"{store.url}/rows.parquet", f"{store.url}/out", **FAKE)

    assert (summary.exit_code, summary.done) == (0, 20)
    assert api.open_dataset(f"{store.url}/out").verify(3).exit_code == 0


def test_prompts_that_are_stored_with_the_job_are_read_back(cloud):
    out = cloud.url()
    summary = api.render(None, out, prompt=["a small red circle", "two"], **FAKE)

    assert (summary.exit_code, summary.done) == (0, 2)


def test_no_secret_is_in_any_object_of_a_run_or_in_what_workers_get(
    s3_server, manifest, monkeypatch
):
    monkeypatch.setenv("MY_KEY", servers.ACCESS_KEY)
    monkeypatch.setenv("MY_SECRET", servers.SECRET_KEY)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    out = s3_server.url()
    options = {"key": "env:MY_KEY", "secret": "env:MY_SECRET", "endpoint_url": s3_server.endpoint}
    sent, real = [], inline_engine.run_inline

    def spy(engine_input):
        sent.append(engine_input)
        return real(engine_input)

    monkeypatch.setattr("sdbatch.engine.session.run_inline", spy)
    summary = api.render(manifest(rows=6), out, settings={"storage": options}, **FAKE)
    assert summary.exit_code == 0
    store = open_store(out, options)
    everything = b"".join(store.get(info.key) for info in store.list(""))
    spec = job_folder.read(store, "main").spec
    told = f"{sent[0].storage!r}{spec!r}{asdict(spec)!r}{store!r}{vars(store)!r}"

    assert json.loads(store.get("__sdbatch/main/job.json"))["plan_id"] == summary.plan_id
    for secret in (servers.ACCESS_KEY, servers.SECRET_KEY):
        assert secret.encode() not in everything
        assert secret not in told
    with pytest.raises(TypeError, match="stays where it was opened"):
        pickle.dumps(store)


def test_errors_of_a_bucket_hold_no_secret(s3_server, monkeypatch):
    monkeypatch.setenv("BAD_SECRET", "quite-another-secret-000")
    monkeypatch.setenv("SOME_KEY", servers.ACCESS_KEY)
    store = open_store(
        s3_server.url(),
        {"key": "env:SOME_KEY", "secret": "env:BAD_SECRET", "endpoint_url": s3_server.endpoint},
    )
    with pytest.raises(Exception, match="credentials") as caught:
        store.put("x", b"x")
    chain, error = "", caught.value
    while error is not None:
        chain += f"{error!r} {error}"
        error = error.__cause__

    assert "quite-another-secret" not in chain
    assert servers.ACCESS_KEY not in str(caught.value)
    assert (caught.value.exit_code, caught.value.retryable) == (3, False)


def test_a_plain_secret_in_options_is_refused_before_anything_is_written(s3, manifest):
    options = {"storage": {"secret": "plain-secret-of-mine"}}
    with pytest.raises(Exception, match="env:NAME") as caught:
        api.render(manifest(rows=2), s3.url(), settings=options, **FAKE)

    assert caught.value.exit_code == 2
    assert "plain-secret-of-mine" not in str(caught.value)


def test_the_command_line_renders_to_a_bucket_and_ends_promptly(cloud, manifest):
    started = time.monotonic()
    command = [
        sys.executable, "-m", "sdbatch.cli.main", "render", manifest(rows=6), cloud.url(),
        "--model", "fake", "--engine", "inline", "--size", "64x64", "--progress", "none",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Unclosed" not in done.stderr
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "raise RuntimeError('a bug')"])
def test_a_process_that_used_a_bucket_ends_at_once(cloud, end):
    script = (
        "import sys, tempfile, time\n"
        "from sdbatch.storage.store import open_store\n"
        f"store = open_store({cloud.url()!r})\n"
        "store.put('a', b'x'); store.create_once('b', b'y'); list(store.list(''))\n"
        "reader = store.open('a')\n"
        f"print('done', time.time(), flush=True)\n{end}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    ended = time.time()

    assert done.stdout.startswith("done"), done.stderr
    assert ended - float(done.stdout.split()[1]) < 10
    assert "Unclosed" not in done.stderr


def test_a_store_opened_before_a_fork_works_on_both_sides(s3):
    script = (
        "import os\n"
        "from sdbatch.storage.store import open_store\n"
        f"store = open_store({s3.url()!r})\n"
        "store.put('parent', b'x')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    store.put('child', b'y'); os._exit(0 if store.get('parent') == b'x' else 1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "assert status == 0, status\n"
        "assert store.get('child') == b'y'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.ray
def test_workers_of_ray_write_to_a_bucket_with_names_of_secrets_only(s3, manifest):
    out = s3.url()
    command = [
        sys.executable, "-m", "sdbatch.cli.main", "render", manifest(rows=24), out, "--model",
        "fake", "--engine", "ray", "--workers", "1", "--size", "64x64", "--shard-size", "8",
        "--set", "storage.key=env:AWS_ACCESS_KEY_ID",
        "--set", "storage.secret=env:AWS_SECRET_ACCESS_KEY",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, env={**os.environ})

    assert done.returncode == 0, done.stderr
    assert servers.SECRET_KEY not in done.stderr + done.stdout
    assert api.open_dataset(out).verify(2).exit_code == 0


def test_a_store_that_ignores_preconditions_is_refused_unless_a_single_driver_says_so(
    s3, manifest, monkeypatch
):
    from sdbatch.storage.s3_store import S3Store

    put = S3Store._put

    async def ignoring(self, name, data, md5, *, only_new):
        return await put(self, name, data, md5, only_new=False)

    monkeypatch.setattr(S3Store, "_put", ignoring)
    prompts = manifest(rows=4)
    with pytest.raises(Exception, match="--single-driver") as caught:
        api.render(prompts, s3.url(), **FAKE)
    assert caught.value.exit_code == 3

    assert api.render(prompts, s3.url(), single_driver=True, **FAKE).exit_code == 0
