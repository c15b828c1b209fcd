import subprocess
import sys

import psutil

from sdbatch.engine.orphan_watch import FAREWELL, orphan_watch, wait_and_clear


def sleeper():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_processes_and_folder_go_when_the_writer_is_gone_without_farewell(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    with sleeper() as orphan:
        wait_and_clear([f"{orphan.pid}\n"], folder)

        assert orphan.wait(5) == -9
    assert not folder.exists()


def test_nothing_is_touched_after_a_farewell(tmp_path):
    with sleeper() as child:
        wait_and_clear([f"{child.pid}\n", f"{FAREWELL}\n"], tmp_path)

        assert child.poll() is None
        child.kill()
    assert tmp_path.exists()


def test_a_watch_that_ends_in_order_leaves_processes_folder_and_no_process_of_its_own(tmp_path):
    with sleeper() as child:
        with orphan_watch(tmp_path) as watch:
            watch([child.pid])

        assert child.poll() is None
        assert [one.pid for one in psutil.Process().children()] == [child.pid]
        child.kill()
    assert tmp_path.exists()
