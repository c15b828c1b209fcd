"""`sdbatch logs` on a real small dataset."""

import json

from sdbatch import api
from tests.cli.test_main import run
from tests.engine.runs import INLINE


def test_logs_are_shown_for_people_and_as_they_were_written(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(20), out, **INLINE, model="fake", shard_size=10)
    shown = run("logs", out).stdout.splitlines()
    written = [json.loads(line) for line in run("logs", out, "--json").stdout.splitlines()]

    assert "run_started: 20 of 20 images in 2 shards to draw" in shown[0]
    assert "run_ended: 20 of 20 images done" in shown[-1]
    assert len(written) == len(shown)
    assert {"at", "level", "event", "session", "writer"} <= set(written[0])


def test_a_shard_may_be_asked_for_and_nothing_that_fits_is_said(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(20), out, **INLINE, model="fake", shard_size=10)
    lines = run("logs", out, "--shard", "1", "--json", "--level", "debug").stdout.splitlines()

    assert {json.loads(line)["shard"] for line in lines} == {1}
    assert run("logs", out, "--shard", "9").stdout == f"{out}: no log lines that fit\n"
    assert run("logs", out, "--session", "nope").returncode == 2
