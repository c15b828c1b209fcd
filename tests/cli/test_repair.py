"""`sdbatch repair` as it is typed."""

import json

import pytest

from sdbatch import api
from sdbatch.cli.main import main
from tests.engine.reworks import is_exact
from tests.engine.runs import INLINE


def run(*args):
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in args])
    return ended.value.code


@pytest.fixture
def out(manifest, tmp_path):
    api.render(manifest(20), tmp_path / "out", model="fake", shard_size=5, **INLINE)
    return tmp_path / "out"


def test_damage_is_mended_and_told(out, capsys):
    next((out / "metadata").glob("train-00002-*")).unlink()
    assert run("verify", out) == 3
    capsys.readouterr()

    code = run("repair", out, "--level", "1", "--engine", "inline", "--json")

    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert code == summary["exit_code"] == 0
    assert (summary["shards_again"], summary["drawn_again"], summary["differ"]) == (1, 0, 0)
    assert "shard 00002: damaged metadata" in said.err
    assert "repaired 1 shards: 0 pictures drawn again, 0 differ" in said.err
    assert run("verify", out, "--level", "3") == 0
    assert is_exact(out)


def test_a_sound_dataset_needs_nothing(out, capsys):
    assert run("repair", out, "--engine", "inline") == 0
    assert "nothing to repair: every shard is sound at level 2" in capsys.readouterr().err


def test_a_plan_that_rotted_is_beyond_a_repair(out, capsys):
    plan = next((out / "__sdbatch" / "main").glob("plan-*.parquet"))
    plan.write_bytes(plan.read_bytes()[:-40])

    assert run("repair", out, "--engine", "inline") == 3
    assert "damaged" in capsys.readouterr().err


def test_damage_that_no_repair_reaches_is_named(out, capsys):
    success = out / "__sdbatch" / "main" / "success" / "0.json"
    success.write_bytes(b"{}")

    code = run("repair", out, "--engine", "inline")

    said = capsys.readouterr().err
    assert "no repair reaches" in said
    assert code in (0, 3)
