"""The main job on Ray: the same pixels as without it, whatever dies on the way."""

import os
import signal
import subprocess
import sys
import time

import duckdb
import psutil
import pytest

from sdbatch import api

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
RENDER = [sys.executable, "-m", "sdbatch.cli.main", "render"]


def pixels(out):
    table = api.open_dataset(out).to_table(["row_index", "image_index", "pixel_sha256"])
    rows, images, hashes = (column.to_pylist() for column in table.columns)
    keys = list(zip(rows, images, strict=True))
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, hashes, strict=True))


def render(*args):
    done = subprocess.run([*RENDER, *map(str, args)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_engine_workers_and_shard_size_decide_nothing_about_pixels(shapes, tmp_path):
    limit = ["--limit", 24]
    render(shapes, tmp_path / "a", *limit, "--engine", "inline", "--shard-size", 64)
    render(shapes, tmp_path / "b", *limit, "--engine", "ray", "--workers", 1, "--shard-size", 7)
    said = render(shapes, tmp_path / "c", *limit, "--engine", "ray", "--workers", 2,
                  "--shard-size", 7)  # fmt: skip

    first = pixels(tmp_path / "a")
    assert len(first) == 24
    assert pixels(tmp_path / "b") == first
    assert pixels(tmp_path / "c") == first
    assert "engine: ray on this machine" in said
    assert api.open_dataset(tmp_path / "c").verify(3).exit_code == 0


def worker_processes(driver):
    """Processes of Ray that run our worker, below a driver."""
    found = []
    for child in psutil.Process(driver.pid).children(recursive=True):
        try:
            if any(part.startswith("ray::") and "Worker" in part for part in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def wait_for(condition, what, seconds=90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"no {what} within {seconds} s")


def committed(out):
    return list((out / "__sdbatch" / "main" / "commits").rglob("*.json"))


def test_a_killed_worker_and_a_killed_driver_lose_and_double_nothing(manifest, tmp_path):
    path, out = manifest(300), tmp_path / "out"
    args = [path, out, "--model", "fake:ms=40", "--size", "64x64", "--shard-size", 7,
            "--workers", 2, "--engine", "ray"]  # fmt: skip
    command = [*RENDER, *map(str, args)]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(committed(out)) >= 2, "commits")
    victims = wait_for(lambda: worker_processes(driver), "workers")
    victims[0].kill()
    before = len(committed(out))
    wait_for(lambda: len(committed(out)) >= before + 6, "commits after a worker's death")
    family = psutil.Process(driver.pid).children(recursive=True)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    done_then = len(committed(out))

    said = render(*args)
    render(path, tmp_path / "undisturbed", *args[2:6], "--engine", "inline")

    assert 8 <= done_then < 43
    assert "resuming: " in said
    assert len(pixels(out)) == 300
    assert pixels(out) == pixels(tmp_path / "undisturbed")
    count = duckdb.sql(f"select count(*), count(distinct key) from '{out}/data/*.parquet'")
    assert count.fetchall() == [(300, 300)]
    assert api.open_dataset(out).verify(3).exit_code == 0
    psutil.wait_procs(family, timeout=10)
    assert not [process for process in family if process.is_running()]


def test_sigterm_drains_and_the_same_line_finishes(manifest, tmp_path):
    path, out = manifest(400), tmp_path / "out"
    args = [path, out, "--model", "fake:ms=40", "--size", "64x64", "--shard-size", 50,
            "--workers", 2, "--engine", "ray"]  # fmt: skip
    driver = subprocess.Popen([*RENDER, *map(str, args)], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: committed(out), "commits")
    driver.send_signal(signal.SIGTERM)
    _, said = driver.communicate(timeout=60)
    parts = list((out / "__sdbatch" / "main" / "parts").rglob("*.parquet"))

    assert driver.returncode == 75, said
    assert "the same command resumes" in said
    assert parts
    assert api.open_dataset(out).status().state == "stopped"
    render(*args)
    assert len(pixels(out)) == 400


def test_several_workers_bring_their_bad_pictures_to_one_canary(manifest, tmp_path):
    summary = api.render(
        manifest(3000),
        tmp_path / "out",
        model="fake:same=1,ms=5",
        size="64x64",
        engine="ray",
        workers=2,
        shard_size=100,
    )

    assert summary.exit_code == 75
    assert summary.workers == 2
    assert summary.reason.startswith("canary: of the first")
    assert summary.done < 3000
