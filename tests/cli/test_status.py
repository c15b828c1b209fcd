"""`sdbatch status` on a real small dataset."""

import json

from sdbatch import api
from sdbatch.storage.lease import hold_lease
from sdbatch.storage.store import open_store
from tests.cli.test_main import run
from tests.engine.runs import INLINE


def test_failures_lead_to_the_command_that_explains_them(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(200), out, **INLINE, model="fake:fail=0.1")
    done = run("status", out)

    assert done.returncode == 0
    assert f"; see: sdbatch errors {out}" in done.stdout
    assert json.loads(run("status", out, "--json").stdout)["worker_hours"] >= 0


def test_a_run_that_starts_is_told_before_it_has_a_plan(tmp_path):
    out = tmp_path / "out"
    with hold_lease(open_store(out)):
        done = run("status", out, "--exit-code")

    assert done.returncode == 75
    assert "starting" in done.stdout
    assert "drives: it checks the manifest" in done.stdout
