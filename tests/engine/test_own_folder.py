"""Folders of this process, and those that killed processes left."""

import signal
import subprocess
import sys

from sdbatch.engine.own_folder import LOCK, living, own_folder, remove_stale

OWNER = """
import sys, time
from pathlib import Path
from sdbatch.engine.own_folder import own_folder

with own_folder("mine-", Path(sys.argv[1])) as folder:
    (folder / "spool.bin").write_bytes(b"pictures")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_folder_lives_as_long_as_its_block(tmp_path):
    with own_folder("mine-", tmp_path) as folder:
        (folder / "file").touch()
        during = living("mine-", tmp_path)

    assert during == [folder]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_the_living_are_spared(tmp_path):
    owners = [
        subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    with owners[0], owners[1]:
        killed, spared = (owner.stdout.readline().strip() for owner in owners)
        owners[0].send_signal(signal.SIGKILL)
        owners[0].wait()
        alive = living("mine-", tmp_path)
        with own_folder("mine-", tmp_path) as folder:
            left = {str(path) for path in tmp_path.iterdir()}
        owners[1].kill()

    assert [str(path) for path in alive] == [spared]
    assert killed not in left
    assert left == {spared, str(folder)}


def test_a_folder_without_a_lock_belongs_to_nobody_knows_whom_and_stays(tmp_path):
    (tmp_path / "mine-new").mkdir()
    (tmp_path / "other-old").mkdir()
    (tmp_path / "other-old" / LOCK).touch()

    remove_stale("mine-", tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"mine-new", "other-old"}
    assert living("mine-", tmp_path) == []
