"""One signal asks, the second one ends; afterwards everything is as it was."""

import os
import signal
import subprocess
import sys
import time

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


def test_the_second_signal_ends_the_process_at_once():
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
    child.send_signal(signal.SIGTERM)
    assert "once more ends at once" in child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=10)

    assert child.returncode == -signal.SIGTERM
