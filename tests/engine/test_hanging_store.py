"""A signal while the store hangs: the process leaves in its time all the same, with 75."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdbatch.storage import layout
from sdbatch.storage.store import open_store

ROOT = Path(__file__).parents[2]
CHILD = """
import sys, threading, time
from sdbatch.cli.main import main
from sdbatch.engine import signals
from sdbatch.storage import local_store, retrying

how, out = sys.argv[1:]
signals.LEEWAY_S, signals.LAST_RESORT_S = 2.0, 5.0
hangs = threading.Event()

def hang(timeout):
    if how == "for ever":
        time.sleep(1000)
    time.sleep(timeout)
    raise OSError("no answer")

def sort(error):
    return retrying.Fault(retrying.Kind.PASSING, str(error))

def slowly(verb):
    def call(*args, **options):
        if hangs.is_set():
            retrying.persist("out", "reach it", hang, sort, retrying.Patience(call_s=2.0))
        return verb(*args, **options)
    return call

for name in ("put", "put_file", "create_once", "get", "head", "list", "delete"):
    setattr(local_store.LocalStore, name, slowly(getattr(local_store.LocalStore, name)))

def hang_soon():
    for line in sys.stdin:
        hangs.set()

threading.Thread(target=hang_soon, daemon=True).start()
sys.exit(main(["render", "--prompt", "a", "--num-images-per-prompt", "400", out,
    "--engine", "inline", "--model", "fake:ms=30", "--size", "64x64", "--progress", "plain",
    "--drain", "1s"]))
"""


@pytest.mark.parametrize(("how", "bound_s"), [("verb by verb", 8.0), ("for ever", 9.0)])
def test_a_signal_while_the_store_hangs_ends_with_75_within_the_drain_and_a_little(
    tmp_path, how, bound_s
):
    out = tmp_path / "out"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, how, str(out)],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (out / "__sdbatch/main/job.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    child.stdin.write("now\n")
    child.stdin.flush()
    time.sleep(0.5)
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=60)

    assert child.returncode == 75, said
    assert time.monotonic() - began < bound_s, said
    assert "SIGTERM" in said


WAITING = """
import sys
from sdbatch.engine.driver_loop import Stop
from sdbatch.engine.lead import lead
from sdbatch.errors import StoppedError
from sdbatch.storage.store import open_store

try:
    with lead(open_store(sys.argv[1]), "main", lambda line: print(line, flush=True), Stop()):
        print("held", flush=True)
except StoppedError as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_another_drivers_heartbeat_is_waited_for_ends_with_75(tmp_path, number):
    store = open_store(tmp_path)
    store.create_once(layout.lease_key("main", 1), b"of nobody known")
    child = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(tmp_path)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.stdout.readline().startswith("waiting up to")
    began = time.monotonic()
    child.send_signal(number)
    said, _ = child.communicate(timeout=20)

    assert child.returncode == 75
    assert "received before anything was begun" in said
    assert time.monotonic() - began < 4
