"""What surrounds an engine call: gathered records, limits that a rework is not held to."""

from functools import partial

from sdbatch import api
from sdbatch.engine import session as session_module
from sdbatch.render.fake import FakeRenderer
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.compactor import Compactor
from sdbatch.storage.store import open_store
from tests.engine.reworks import ENGINE, spoil, spoilt
from tests.engine.runs import INLINE


def test_records_are_gathered_while_a_run_goes_on(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(session_module, "Compactor", partial(Compactor, every=2))
    out = tmp_path / "out"
    api.render(manifest(40), out, model="fake", shard_size=5, **INLINE)

    gathered = list((out / "__sdbatch" / "main" / "ckpt").iterdir())
    records = list(RunFolder(open_store(out)).records())
    assert gathered
    assert len(records) == 8
    assert api.open_dataset(out).verify(3).exit_code == 0


def test_gathered_records_know_the_revisions_of_a_retry(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(session_module, "Compactor", partial(Compactor, every=2))
    out = spoilt(manifest, tmp_path, monkeypatch)

    api.retry(out, **ENGINE)

    revisions = {r.result.shard_id: r.revision for r in RunFolder(open_store(out)).records()}
    assert revisions == {0: 1, 1: 1, 2: 1, 3: 0}
    assert api.open_dataset(out).status().failed == 0


def test_what_failed_once_may_fail_again_without_ending_the_retry(manifest, tmp_path, monkeypatch):
    """Neither the canary nor the limit of the run is meant for rows that are known to fail."""
    faults = dict.fromkeys(range(70), "OneError")
    out = spoilt(
        manifest, tmp_path, monkeypatch, faults, rows=100, canary=False, stop_after_failed="90%"
    )
    spoil(monkeypatch, dict.fromkeys(range(66), "OneError"))

    summary = api.retry(out, **ENGINE)

    assert (summary.exit_code, summary.retried, summary.now_success) == (4, 70, 4)
    assert RunFolder(open_store(out)).finished()


def test_progress_and_rate_count_pictures_that_are_drawn(manifest, tmp_path, monkeypatch, report):
    out = spoilt(manifest, tmp_path, monkeypatch)
    drawn, real = [], FakeRenderer._draw
    monkeypatch.setattr(
        FakeRenderer,
        "_draw",
        lambda self, row, n: drawn.append(row.row_index) or real(self, row, n),
    )
    summary = api.retry(out, report=report, **ENGINE)

    last = report.steps[-1]
    assert (last.images, last.done, last.shards, last.shards_done) == (4, 4, 3, 3)
    assert len(drawn) == 4
    assert summary.images_per_s > 0


def test_what_a_renderer_finds_out_while_it_draws_is_said_once(
    manifest, tmp_path, monkeypatch, report
):
    real = FakeRenderer._draw

    def draw(self, row, lanes):
        self.notes = ("on loading", "while drawing")
        return real(self, row, lanes)

    monkeypatch.setattr(FakeRenderer, "_draw", draw)
    api.render(manifest(20), tmp_path / "out", model="fake", shard_size=5, report=report, **INLINE)

    assert report.lines.count("w0: while drawing") == 1
