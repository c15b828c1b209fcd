"""`sdbatch stop`: asked from anywhere, heard within seconds, never without a word."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner

from sdbatch import api
from sdbatch.cli.stop import command
from sdbatch.errors import InputError
from sdbatch.storage import layout
from sdbatch.storage.lease import hold_lease
from sdbatch.storage.process_identity import this_process
from sdbatch.storage.store import open_store


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run 'main'"):
        api.stop(tmp_path)


def test_when_nobody_is_at_work_it_says_so_and_leaves_nothing(tmp_path):
    store = open_store(tmp_path / "out")
    with hold_lease(store):
        pass
    done = CliRunner().invoke(command, [str(tmp_path / "out")], standalone_mode=False)

    assert done.return_value == 0
    assert "no driver is at work, nothing to stop" in done.output
    assert not list(store.list("__sdbatch/main/stop/"))


def test_a_driver_elsewhere_is_asked_by_name_and_once(tmp_path):
    store = open_store(tmp_path / "out")
    owner = replace(this_process(), host="node-7")
    with hold_lease(store, owner=owner) as lease:
        answers = [api.stop(tmp_path / "out") for _ in range(2)]
        done = CliRunner().invoke(command, [str(tmp_path / "out"), "--json"], standalone_mode=False)

        assert store.head(layout.stop_key("main", lease.epoch.number)) is not None
    assert [answer.asked for answer in answers] == [True, True]
    assert "node-7" in answers[0].driver
    assert json.loads(done.output)["asked"] is True


def test_a_running_render_drains_and_exits_75(tmp_path):
    out = tmp_path / "out"
    code = (
        "import sys\n"
        "from sdbatch.cli.main import main\n"
        "main(['render', '--prompt', 'a', '--num-images-per-prompt', '900', sys.argv[1],\n"
        "      '--engine', 'inline', '--model', 'fake:ms=100', '--size', '64x64',\n"
        "      '--progress', 'plain'])\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (out / "__sdbatch/main/job.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    asked = api.stop(out)
    _, said = child.communicate(timeout=60)

    assert asked.asked
    assert child.returncode == 75
    assert "ended early: sdbatch stop was called; the same command resumes" in said
    assert not api.stop(out).asked
