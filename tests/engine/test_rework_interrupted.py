"""A rework that dies anywhere is finished by the same line, by `render`, or by the next one."""

from contextlib import nullcontext
from threading import Thread

import pytest
import yaml

from sdbatch import api
from sdbatch.audit import finish as finish_module
from sdbatch.engine import rework
from sdbatch.engine.session import Session
from sdbatch.errors import InputError
from sdbatch.render.fake import FakeRenderer
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import open_store
from tests.engine.reworks import (
    ENGINE,
    SLOW,
    files,
    is_exact,
    of_shard,
    retry_until,
    spoilt,
    table,
)
from tests.engine.runs import INLINE

MANY = {3: "OneError", 4: "OneError", **dict.fromkeys(range(10, 20), "OneError"), 25: "OneError"}


class Killed(BaseException):
    """The process is gone."""


def killed(*args, **kwargs):
    raise Killed


@pytest.fixture
def out(manifest, tmp_path, monkeypatch):
    return spoilt(manifest, tmp_path, monkeypatch)


def revisions(out):
    return {
        record.result.shard_id: record.revision for record in RunFolder(open_store(out)).records()
    }


def test_a_stopped_retry_is_finished_by_the_same_line(manifest, tmp_path, monkeypatch, report):
    out = spoilt(manifest, tmp_path, monkeypatch, faults=MANY, model=SLOW)
    before = files(out)
    stopped = retry_until(1, monkeypatch, out)
    kept = {path.name for path in (out / "data").iterdir()}
    assert stopped.exit_code == 75
    assert RunFolder(open_store(out)).open_rework() is not None
    assert {name.removeprefix("data/") for name in before if name.startswith("data/")} <= kept

    summary = api.retry(out, report=report, **ENGINE)

    assert (summary.exit_code, summary.failed, summary.success) == (0, 0, 40)
    assert (summary.retried, summary.now_success) == (13, 13)
    assert "going on with the retry begun at" in report.text
    assert revisions(out) == {0: 1, 1: 1, 2: 1, 3: 0}
    assert of_shard(files(out), 3) == of_shard(before, 3)
    assert is_exact(out)


def test_render_with_its_own_line_finishes_an_open_retry(manifest, tmp_path, monkeypatch, report):
    out = spoilt(manifest, tmp_path, monkeypatch, faults=MANY, model=SLOW)
    retry_until(1, monkeypatch, out)

    path = str(tmp_path / "rows.parquet")
    summary = api.render(path, out, model=SLOW, shard_size=10, report=report, **INLINE)

    assert (summary.exit_code, summary.success) == (0, 40)
    assert "going on with the retry begun at" in report.text
    assert is_exact(out)


def test_render_finishes_a_retry_whose_manifest_moved(manifest, tmp_path, monkeypatch):
    out = spoilt(manifest, tmp_path, monkeypatch, faults=MANY, model=SLOW)
    retry_until(1, monkeypatch, out)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "rows.parquet").rename(moved / "rows.parquet")

    path = str(moved / "rows.parquet")
    summary = api.render(path, out, model=SLOW, shard_size=10, **INLINE)

    assert (summary.exit_code, summary.success) == (0, 40)


def test_another_wish_finishes_the_open_one_and_then_does_its_own(
    manifest, tmp_path, monkeypatch, report
):
    faults = {**MANY, 38: "OtherError"}
    out = spoilt(manifest, tmp_path, monkeypatch, faults=faults, model=SLOW)
    retry_until(1, monkeypatch, out, error_type="OneError")

    summary = api.retry(out, error_type="OtherError", report=report, **ENGINE)

    assert (summary.exit_code, summary.success, summary.retried) == (0, 40, 1)
    assert revisions(out) == {0: 1, 1: 1, 2: 1, 3: 1}
    assert RunFolder(open_store(out)).success_number() == 2
    assert is_exact(out)


def test_a_stopped_retry_draws_no_picture_twice(manifest, tmp_path, monkeypatch):
    out = spoilt(manifest, tmp_path, monkeypatch, faults=MANY, model=SLOW)
    drawn, real = [], FakeRenderer._draw
    monkeypatch.setattr(
        FakeRenderer,
        "_draw",
        lambda self, row, n: drawn.append(row.row_index) or real(self, row, n),
    )
    while retry_until(1, monkeypatch, out).exit_code == 75:
        assert len(drawn) <= len(MANY)

    assert sorted(drawn) == sorted(MANY)
    assert is_exact(out)


def test_parts_of_a_first_commit_are_none_of_a_revisions(out):
    store = open_store(out)
    stale = out / "__sdbatch" / "main" / "parts" / "00000"
    stale.mkdir(parents=True)
    (stale / "0123abcd-0000.json").write_text("{}")

    assert api.retry(out, **ENGINE).success == 40
    assert not list(store.list("__sdbatch/main/parts/"))


def nth(call, number, monkeypatch, owner, name):
    """Have the n-th call of a function end the process instead, before or after its work."""
    real, count = getattr(owner, name), [0]

    def counted(*args, **kwargs):
        count[0] += 1
        if count[0] == number and call == "before":
            raise Killed
        done = real(*args, **kwargs)
        if count[0] == number and call == "after":
            raise Killed
        return done

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (RunFolder, "begin_rework"),
        (Session, "run"),
        (rework, "create_success"),
        (RunFolder, "create_success"),
        (finish_module, "collect_orphans"),
        (finish_module, "publish"),
    ],
)
def test_a_driver_killed_at_any_step_is_made_up_for(out, monkeypatch, owner, name, when):
    before = files(out)
    with monkeypatch.context() as patch:
        nth(when, 1, patch, owner, name)
        with pytest.raises(Killed):
            api.retry(out, **ENGINE)

    summary = api.retry(out, **ENGINE)

    assert (summary.exit_code, summary.success, summary.failed) == (0, 40, 0)
    assert is_exact(out)
    assert (out / "README.md").exists()
    assert "OneError" not in (out / "README.md").read_text()
    assert of_shard(files(out), 3) == of_shard(before, 3)
    assert revisions(out) == {0: 1, 1: 1, 2: 1, 3: 0}
    assert RunFolder(open_store(out)).success_number() == 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_worker_that_fails_around_any_commit_leaves_nothing_half(out, monkeypatch, number, when):
    """The engine takes it for a fault of the attempt and has the shard made by another."""
    real, count = RunFolder.commit, [0]

    def commit(self, *args, **kwargs):
        count[0] += 1
        if count[0] == number and when == "before":
            raise OSError("the process stumbles")
        won = real(self, *args, **kwargs)
        if count[0] == number and when == "after":
            raise OSError("the process stumbles")
        return won

    monkeypatch.setattr(RunFolder, "commit", commit)
    monkeypatch.setattr("sdbatch.engine.shard_queue.RETRY_FIRST_S", 0.01)

    summary = api.retry(out, **ENGINE)

    assert (summary.exit_code, summary.success) == (0, 40)
    assert revisions(out) == {0: 1, 1: 1, 2: 1, 3: 0}
    assert is_exact(out)


def test_gc_deletes_nothing_while_a_retry_is_open(manifest, tmp_path, monkeypatch):
    out = spoilt(manifest, tmp_path, monkeypatch, faults=MANY, model=SLOW)
    retry_until(1, monkeypatch, out)
    before = files(out)

    with pytest.raises(InputError, match="retry"):
        api.open_dataset(out).collect_orphans()
    assert files(out) == before


def test_two_drivers_that_retry_at_once_make_one_dataset(out):
    """The second one has no lease; its late commits are valid or lost, never both."""
    box = {}

    def second():
        box["second"] = api.retry(out, **ENGINE)

    with pytest.MonkeyPatch.context() as patch:
        free = type("Free", (), {"lost": False})()
        patch.setattr(rework, "lead", lambda *args: nullcontext(free))
        thread = Thread(target=second)
        thread.start()
        first = api.retry(out, gc=False, **ENGINE)
        thread.join()
    api.open_dataset(out).collect_orphans()

    assert first.success == box["second"].success == 40
    assert revisions(out) == {0: 1, 1: 1, 2: 1, 3: 0}
    assert sorted(table(out)) == list(range(40))
    assert api.open_dataset(out).verify(3).exit_code == 0


@pytest.mark.parametrize("layout_name", ["parquet", "webdataset"])
def test_the_card_of_a_half_done_retry_names_every_row_once(
    layout_name, manifest, tmp_path, monkeypatch
):
    out = spoilt(manifest, tmp_path, monkeypatch, faults=MANY, model=SLOW, format=layout_name)
    before, stood = (out / "README.md").read_text(), names_on_card(out)
    assert stood == sorted(path.name for path in (out / "data").iterdir())
    retry_until(1, monkeypatch, out)
    during = (out / "README.md").read_text()

    assert len(list((out / "data").iterdir())) > 4
    assert names_on_card(out) == stood
    assert during.split("---", 2)[2] == before.split("---", 2)[2]
    api.retry(out, **ENGINE)
    assert "data/*." in (out / "README.md").read_text()
    assert names_on_card(out) == sorted(path.name for path in (out / "data").iterdir())


def names_on_card(out):
    """Files of `data/` that readers of the card take."""
    front = yaml.safe_load((out / "README.md").read_text().split("---")[1])
    (split,) = front["configs"][0]["data_files"]
    return sorted(path.name for pattern in split["path"] for path in out.glob(pattern))
