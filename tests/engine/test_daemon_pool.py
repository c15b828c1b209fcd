"""Threads that finish what they took and hold no process."""

import subprocess
import sys

import pytest

from sdbatch.engine.daemon_pool import DaemonPool


def test_all_tasks_are_done_in_order_although_one_fails():
    pool, seen = DaemonPool(1, "write"), []
    pool.submit(seen.append, 1)
    pool.submit(lambda: 1 / 0)
    pool.submit(seen.append, 2)
    pool.shutdown()
    pool.shutdown()

    assert seen == [1, 2]
    with pytest.raises(RuntimeError):
        pool.submit(seen.append, 3)


def test_a_pool_without_tasks_ends():
    DaemonPool(2, "encode").shutdown()


def test_a_task_that_hangs_does_not_hold_the_process():
    code = (
        "import time\nfrom sdbatch.engine.daemon_pool import DaemonPool\n"
        "DaemonPool(1, 'write').submit(time.sleep, 100)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=30, check=False)

    assert done.returncode == 0
