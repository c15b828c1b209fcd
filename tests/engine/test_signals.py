"""One signal asks, the second one ends; afterwards everything is as it was."""

import os
import signal
import subprocess
import sys
import time

import pytest

import sdbatch
from sdbatch.engine.driver_loop import Stop
from sdbatch.engine.signals import stop_on_signals


def test_the_first_signal_asks_for_an_orderly_end():
    stop, notes = Stop(), []
    with stop_on_signals(stop, notes.append):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)

    assert stop.reason == "SIGTERM received"
    assert len(notes) == 1


def test_handlers_are_restored_even_after_an_error():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with stop_on_signals(Stop(), print):
            raise KeyError
    except KeyError:
        pass

    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_process_at_once_and_says_that_it_can_be_resumed(number):
    code = (
        "import time\n"
        "from sdbatch.engine.driver_loop import Stop\n"
        "from sdbatch.engine.signals import stop_on_signals\n"
        "with stop_on_signals(Stop(), lambda line: print(line, flush=True)):\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "up\n"
    child.send_signal(number)
    assert "once more ends at once" in child.stdout.readline()
    began = time.monotonic()
    child.send_signal(number)
    child.communicate(timeout=10)

    assert child.returncode == 75
    assert time.monotonic() - began < 2


def test_a_run_that_two_signals_ended_is_resumed(tmp_path):
    code = (
        "import sys\n"
        "from sdbatch.cli.main import main\n"
        "sys.argv = ['sdbatch', 'render', '--prompt', 'a', '--num-images-per-prompt', '100',\n"
        "            sys.argv[1], '--engine', 'inline', '--model', 'fake:ms=30',\n"
        "            '--size', '64x64', '--progress', 'none']\n"
        "main()\n"
    )
    out = tmp_path / "out"
    child = subprocess.Popen([sys.executable, "-c", code, str(out)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out / "__sdbatch/main/job.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    child.wait(timeout=10)
    options = {"engine": "inline", "model": "fake:ms=30", "size": "64x64"}

    assert child.returncode == 75
    assert time.monotonic() - began < 2
    assert sdbatch.open_dataset(out).status().exit_code == 75
    assert (
        sdbatch.render(prompt=["a"], num_images_per_prompt=100, out=out, **options).exit_code == 0
    )
