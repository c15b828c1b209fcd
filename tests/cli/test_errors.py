"""`sdbatch errors` on a real small dataset."""

import json

from sdbatch import api
from tests.cli.test_main import run
from tests.engine.runs import INLINE


def test_failures_are_shown_in_groups_and_as_json(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(200), out, **INLINE, model="fake:fail=0.1,black=0.05")
    shown, narrow = run("errors", out), run("errors", out, "--type", "BlackImageError")
    told = json.loads(run("errors", out, "--json").stdout)

    assert shown.returncode == narrow.returncode == 0, shown.stderr
    assert f"fix: sdbatch retry {out} --error-type FakeError" in shown.stdout
    assert '"picture number ' in shown.stdout
    assert "FakeError:" not in narrow.stdout
    assert told["failed"] == sum(group["count"] for group in told["groups"]) > 0


def test_nothing_failed_is_one_line(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(4), out, **INLINE, model="fake")

    assert run("errors", out).stdout == f"{out}: nothing failed\n"


def test_an_unknown_type_is_refused_with_those_there(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(100), out, **INLINE, model="fake:fail=0.2")
    done = run("errors", out, "--type", "Foo")

    assert (done.returncode, done.stdout) == (2, "")
    assert "there are FakeError" in done.stderr
