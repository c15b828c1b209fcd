"""A cluster of our own: what it leaves behind, after a good end and after a bad one."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import ray

from sdbatch.engine.own_folder import LOCK, living
from sdbatch.engine.ray_cluster import PREFIX, connection
from sdbatch.engine.ray_engine import run_on_ray
from sdbatch.errors import JobError
from tests.engine.standin import StandIn, engine_input, make_shards

ROOT = Path(__file__).parents[2]
FOREVER = """
import sys
from sdbatch.engine.ray_engine import run_on_ray
from tests.engine.standin import StandIn, engine_input, make_shards

run, _ = engine_input(
    sys.argv[1], make_shards(100, 100), storage={"picture_s": 0.05},
    on_event=lambda event: print(type(event).__name__, flush=True),
)
run_on_ray(run, None, 1, StandIn)
"""


def folders():
    """What lies there and belongs to nobody alive: others may run beside these tests."""
    base = Path(tempfile.gettempdir())
    return set(base.glob(f"{PREFIX}*")) - set(living(PREFIX, base))


@pytest.mark.parametrize("address", ["ray://h:1", "ray://127.0.0.1:10001"])
def test_an_address_of_ray_client_is_refused_with_the_way_on(address):
    with pytest.raises(JobError, match="`--address auto` or HOST:PORT"), connection(address):
        pass


def test_an_address_of_ray_client_in_the_environment_is_refused_too(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://h:1")

    with pytest.raises(JobError), connection("auto"):
        pass


@pytest.mark.ray
def test_a_run_on_two_workers_commits_everything_and_leaves_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    stale, foreign = (
        Path(tempfile.gettempdir()) / f"{PREFIX}{name}" for name in ("stale", "other")
    )
    stale.mkdir(exist_ok=True)
    (stale / LOCK).touch()
    foreign.mkdir(exist_ok=True)  # without a lock nobody knows whose it is
    environment, level = dict(os.environ), logging.getLogger("ray").level
    handler = signal.getsignal(signal.SIGTERM)
    during = []
    run, seen = engine_input(
        tmp_path,
        make_shards(8),
        storage={"picture_s": 0.05},
        on_event=lambda _: during.append(
            (signal.getsignal(signal.SIGTERM), os.environ.get("RAY_AUTH_MODE"), len(folders()))
        ),
    )

    result = run_on_ray(run, None, 1, StandIn)

    print(f"first lease after {result.startup_s:.1f} s")
    left = folders()
    foreign.rmdir()
    assert (result.exit_code, result.success, result.workers_used) == (0, 32, 2)
    assert len(list(tmp_path.glob("*.commit"))) == 8
    assert seen["progress"][-1].done == 32
    assert {one[:2] for one in during} == {(handler, "token")}
    assert left == {foreign}
    assert psutil.Process().children(recursive=True) == []
    assert dict(os.environ) == environment
    assert signal.getsignal(signal.SIGTERM) is handler
    assert logging.getLogger("ray").level == level
    assert not ray.is_initialized()
    written = capfd.readouterr()
    assert written.err == ""
    assert written.out.startswith("first lease after")


@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="Ray ends with its driver on Linux only")
def test_a_killed_driver_takes_all_processes_and_its_folder_with_it(tmp_path):
    before = folders()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(
        [sys.executable, "-c", FOREVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with driver:
        while "Pulse" not in driver.stdout.readline():
            assert driver.poll() is None
        processes = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        driver.wait()
        _, alive = psutil.wait_procs(processes, timeout=5)
    deadline = time.monotonic() + 5
    while folders() != before and time.monotonic() < deadline:
        time.sleep(0.05)

    assert len(processes) >= 6
    assert alive == []
    assert folders() == before


STRANGER = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
print("inside")
"""
HANGING = """
import os, psutil, ray
from sdbatch.engine import ray_cluster

ray_cluster.SHUTDOWN_S = 2.0
with ray_cluster.connection(None, num_cpus=1):
    print(os.environ["RAY_AUTH_MODE"], ray.get_runtime_context().gcs_address, flush=True)
    input()
    for child in psutil.Process().children():
        if child.name() in ("gcs_server", "raylet"):
            child.suspend()
"""


@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="Ray ends with its driver on Linux only")
def test_a_cluster_of_ours_asks_for_its_token_and_leaving_it_ends_whatever_hangs():
    before = folders()
    # As beside a cluster of somebody else's that asks for nothing.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    with subprocess.Popen(
        [sys.executable, "-c", HANGING],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    ) as driver:  # fmt: skip
        mode, address = driver.stdout.readline().split()
        refused = subprocess.run(
            [sys.executable, "-c", STRANGER, address],
            capture_output=True, text=True, env=environment, check=False, timeout=90,
        )  # fmt: skip
        family = psutil.Process(driver.pid).children(recursive=True)
        leaving = time.monotonic()
        driver.communicate("\n", timeout=60)
    left_after = time.monotonic() - leaving
    _, alive = psutil.wait_procs(family, timeout=5)

    assert mode == "token"
    assert refused.returncode != 0
    assert "inside" not in refused.stdout
    assert driver.returncode == 0
    assert left_after < 20
    assert folders() == before
    assert alive == []


CONNECTING = """
import ray
from sdbatch.engine import ray_cluster
from sdbatch.engine.driver_loop import Stop
from sdbatch.engine.signals import stop_on_signals

stop, real = Stop(), ray.init
def init(*args, **options):
    print("connecting", flush=True)
    return real(*args, **options)
ray.init = init
with stop_on_signals(stop, lambda line: print(line, flush=True)):
    with ray_cluster.connection(None, num_cpus=1):
        print("connected", stop.reason, flush=True)
"""


@pytest.mark.ray
def test_a_signal_while_ray_starts_is_heard_as_any_other_and_ends_in_order():
    with subprocess.Popen(
        [sys.executable, "-c", CONNECTING], stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout.readline() == "connecting\n"
        time.sleep(1.0)
        driver.send_signal(signal.SIGTERM)
        said, _ = driver.communicate(timeout=90)

    assert driver.returncode == 0
    assert said.splitlines()[-1] == "connected SIGTERM received"
    assert "finishing what is in flight" in said
