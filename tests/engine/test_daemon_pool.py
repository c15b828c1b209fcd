"""Threads that finish what they took and hold no process."""

import os
import subprocess
import sys

import pytest

from sdbatch.engine.daemon_pool import DaemonPool, busy_threads


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


@pytest.mark.parametrize(("cores", "threads"), [(1, 2), (2, 2), (8, 4), (16, 8), (192, 8)])
def test_busy_threads_leave_half_of_the_cores_to_drawing(cores, threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert busy_threads(8) == threads


def test_busy_threads_are_counted_where_nobody_tells_which_cores_are_allowed(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert busy_threads(8) == 6
