"""Gone means surely gone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from sdbatch.storage import process_identity
from sdbatch.storage.process_identity import is_gone, this_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="identity is read from /proc")


def identity_of(child):
    return replace(this_process(), pid=child.pid, started=process_identity._started(child.pid))


@pytest.fixture
def child():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_live_process_is_not_gone(child):
    assert not is_gone(identity_of(child), this_process())
    assert not is_gone(this_process(), this_process())


def test_a_killed_child_is_gone_before_and_after_its_parent_looks(child):
    identity = identity_of(child)
    child.kill()
    while process_identity._started(child.pid):
        pass

    assert is_gone(identity, this_process())
    child.wait()
    assert is_gone(identity, this_process())


def test_a_reused_pid_is_another_process():
    assert is_gone(replace(this_process(), started="1"), this_process())


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"boot_id": "other"}, {"pid": 0}])
def test_nobody_is_declared_gone_from_afar(change):
    gone = replace(this_process(), started="1", **change)

    assert not is_gone(gone, this_process())


def test_an_unknown_system_is_never_ours():
    nowhere = replace(this_process(), boot_id="", started="1")

    assert not is_gone(nowhere, nowhere)
