"""`sdbatch status --watch` as a person meets it."""

import io
import json
import os
import pty
import subprocess
import time
from dataclasses import replace

from rich.console import Console

from sdbatch import api
from sdbatch.audit.status import read_status
from sdbatch.audit.watching import Watch
from sdbatch.cli.watch import line, picture, watch
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.lease import hold_lease
from tests.audit.tiny_dataset import memory_store, shard_rows, write_dataset, write_shard
from tests.cli.test_main import SDBATCH, run
from tests.engine.runs import INLINE


def test_lines_come_when_something_changed_and_the_last_says_all(capsys, monkeypatch):
    store = memory_store()
    write_dataset(store, shards=(0,), success=False)
    lease = hold_lease(store)
    lease.__enter__()
    monkeypatch.setattr("sdbatch.audit.watching.WHOLE_EVERY_S", 0.0)

    def finish():
        for shard in (1, 2):
            write_shard(store, shard, *shard_rows(shard))
        RunFolder(store, "main").create_success("plan-0123456789abcdef", 3)
        lease.__exit__(None, None, None)

    steps = [lambda: None, finish]
    last = watch(Watch(store), pause=lambda seconds: steps.pop(0)())
    lines = capsys.readouterr().out.splitlines()

    assert last.state == "done_with_failures"
    assert lines[0].startswith("running 4/12 images, 1/3 shards, failed 0")
    assert lines[1].startswith("done with failures 12/12 images")
    assert "see: sdbatch errors" in "\n".join(lines[2:])


def test_a_finished_run_is_shown_once_with_its_exit_code(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(30), out, **INLINE, model="fake:fail=0.3")
    done = run("status", out, "--watch", "--exit-code")
    body = json.loads(run("status", out, "--watch", "--json").stdout)

    assert done.returncode == 4
    assert done.stdout.startswith("done with failures 30/30 images")
    assert body["state"] == "done_with_failures"
    assert run("status", out, "--watch").returncode == 0


def test_a_terminal_shows_a_bar_until_the_run_ends(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(30), out, **INLINE, model="fake")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    args = [*SDBATCH, "status", str(out), "--watch", "--exit-code"]
    process = subprocess.Popen(args, stdout=theirs, env=environment)
    os.close(theirs)
    text, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side has closed
            break
        if not piece:
            break
        text += piece
    os.close(ours)

    assert process.wait(60) == 0
    assert "30 of 30 images" in text.decode()
    assert "━" in text.decode()


def test_a_status_on_a_terminal_is_text_whatever_it_holds():
    store = memory_store()
    write_dataset(store)
    status = replace(read_status(store), url="[red]s3://b[/red]", paused="[bold]x")
    target = io.StringIO()
    Console(file=target, width=100).print(picture(status))

    assert "[red]s3://b[/red]" in target.getvalue()
    assert "[bold]x" in line(status)
