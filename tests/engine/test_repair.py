"""A repair keeps what is proven intact, draws the rest, and says what came out otherwise."""

import hashlib
import json

import pytest

from sdbatch import api
from sdbatch.engine.session import Session
from sdbatch.errors import InputError
from sdbatch.render.fake import FakeRenderer, fake_pixels
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import open_store
from tests.engine.reworks import (
    ENGINE,
    SLOW,
    failures,
    files,
    is_exact,
    of_shard,
    pixels,
    retry_until,
    spoil,
    spoilt,
    table,
)
from tests.engine.runs import INLINE, asked_for, run_until

FAULTS = {14: "OneError", 33: "OtherError"}


@pytest.fixture
def drawn(monkeypatch):
    """Rows that are drawn from now on."""
    rows, real = [], FakeRenderer._draw

    def draw(self, row, lanes):
        rows.append(row.row_index)
        return real(self, row, lanes)

    monkeypatch.setattr(FakeRenderer, "_draw", draw)
    return rows


@pytest.fixture
def out(manifest, tmp_path, monkeypatch):
    """Four shards of ten; rows 14 and 33 failed, and would fail again."""
    out = spoilt(manifest, tmp_path, monkeypatch, faults=FAULTS)
    spoil(monkeypatch, FAULTS)
    return out


def file_of(out, kind, shard_id):
    (path,) = (out / kind).glob(f"train-{shard_id:05d}-*")
    return path


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def flip_picture(out, row):
    """One bit inside the stored picture of a row."""
    image = table(out)[row]["image"]["bytes"]
    path = file_of(out, "data", row // 10)
    flip(path, path.read_bytes().index(image) + len(image) // 2)


def mended(out, before, rows, shards):
    """What holds after every repair that could make all of it good."""
    now = files(out)
    assert table(out) == rows
    assert is_exact(out)
    for shard_id in set(range(4)) - set(shards):
        assert of_shard(now, shard_id) == of_shard(before, shard_id)
    assert failures(out) == FAULTS


def same_pictures(rows, after):
    changing = {"created_at", "latency_ms", "attempts"}
    for index, row in rows.items():
        assert {n: v for n, v in row.items() if n not in changing} == {
            n: v for n, v in after[index].items() if n not in changing
        }


def test_a_sound_dataset_is_left_alone(out, report):
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")}
    summary = api.repair(out, report=report, allow_failed=2, **ENGINE)

    assert (summary.exit_code, summary.shards_again) == (0, 0)
    assert "nothing to repair: every shard is sound at level 2" in report.text
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")} == before


@pytest.mark.parametrize("kind", ["metadata", "errors"])
@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_files_beside_whole_pictures_are_made_without_drawing_one(out, drawn, kind, damage):
    before, rows = files(out), table(out)
    path = file_of(out, kind, 1)
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        flip(path, path.stat().st_size // 3)

    summary = api.repair(out, **ENGINE)

    # Whatever failed is known from its file alone: without it these rows are tried again.
    assert drawn == ([14] if kind == "errors" else [])
    assert (summary.shards_again, summary.success, summary.failed) == (1, 38, 2)
    assert summary.differ == 0
    mended(out, before, rows, [1])


def test_a_flipped_bit_costs_one_picture(out, drawn, report):
    before, rows = files(out), table(out)
    flip_picture(out, 15)

    summary = api.repair(out, report=report, **ENGINE)

    assert drawn == [15]
    assert (summary.shards_again, summary.drawn_again, summary.differ) == (1, 1, 0)
    after = table(out)
    same_pictures(rows, after)
    assert {i: row for i, row in after.items() if i != 15} == {
        i: row for i, row in rows.items() if i != 15
    }
    assert of_shard(files(out), 2) == of_shard(before, 2)
    assert is_exact(out)
    assert "repaired 1 shards: 1 pictures drawn again, 0 differ" in report.text


@pytest.mark.parametrize("damage", ["gone", "cut", "footer", "empty"])
def test_lost_pictures_are_drawn_again_to_the_same_pixels(out, drawn, damage):
    rows = table(out)
    path = file_of(out, "data", 1)
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "footer":
        flip(path, path.stat().st_size - 300)
    else:
        path.write_bytes(b"")

    summary = api.repair(out, **ENGINE)

    assert set(drawn) <= set(range(10, 20)) - {14}
    assert (summary.success, summary.failed, summary.differ) == (38, 2, 0)
    same_pictures(rows, table(out))
    assert failures(out) == FAULTS
    assert is_exact(out)


def test_a_shard_of_which_nothing_is_left_is_drawn_from_the_plan(out, drawn, report):
    rows = table(out)
    for kind in ("data", "metadata", "errors"):
        file_of(out, kind, 1).unlink()

    summary = api.repair(out, level=1, report=report, **ENGINE)

    assert sorted(drawn) == list(range(10, 20))
    same_pictures(rows, table(out))
    assert (summary.success, failures(out)) == (38, FAULTS)
    assert "shard 00001: too little was left to compare" in report.text
    assert is_exact(out)


def test_pictures_drawn_from_other_seeds_are_lost_with_nothing_but_their_pixels(
    manifest, tmp_path, monkeypatch, drawn
):
    out = spoilt(manifest, tmp_path, monkeypatch, faults={14: "OneError"})
    api.retry(out, reseed=5, **ENGINE)
    rows = table(out)
    file_of(out, "data", 1).unlink()

    summary = api.repair(out, **ENGINE)

    after = table(out)
    same_pictures(rows, after)
    assert after[14]["seed"] == rows[14]["seed"]
    assert (pixels(after[14]) == fake_pixels(asked_for(after[14]))).all()
    assert summary.differ == 0


def test_a_failure_that_succeeds_this_time_is_named(out, monkeypatch, report):
    file_of(out, "errors", 1).unlink()
    spoil(monkeypatch, {33: "OtherError"})

    summary = api.repair(out, report=report, **ENGINE)

    assert (summary.success, summary.differ) == (39, 1)
    assert "shard 00001: 1 pictures differ from what stood before: 000000014_000" in report.text
    assert is_exact(out)


def test_pixels_of_another_environment_are_named(out, monkeypatch, report):
    real = FakeRenderer._pixels
    file_of(out, "data", 1).unlink()
    monkeypatch.setattr(FakeRenderer, "_pixels", lambda self, row: 255 - real(self, row))

    summary = api.repair(out, report=report, **ENGINE)

    assert (summary.exit_code, summary.differ) == (4, 9)
    assert "9 pictures differ from what stood before: 000000010_000, " in report.text
    assert is_exact(out)


def test_a_picture_that_was_wrong_when_it_was_committed_is_found_at_level_three(
    out, drawn, monkeypatch
):
    """Hashes of files fit; only its own columns tell."""
    rows = table(out)
    flip_picture(out, 15)
    _believe(out, 1)

    assert api.repair(out, level=2, **ENGINE).shards_again == 0
    summary = api.repair(out, level=3, **ENGINE)

    assert drawn == [15]
    assert summary.shards_again == 1
    same_pictures(rows, table(out))
    assert is_exact(out)


def _believe(out, shard_id):
    """Write records that fit a changed data file, as if it had been committed so."""
    digest = hashlib.sha256(file_of(out, "data", shard_id).read_bytes()).hexdigest()
    state = out / "__sdbatch" / "main"
    key = f"data/{file_of(out, 'data', shard_id).name}"
    record = state / "commits" / "000" / f"{shard_id:05d}.json"
    body = json.loads(record.read_text())
    was, body["data"]["sha256"] = body["data"]["sha256"], digest
    record.write_text(json.dumps(body) + "\n")
    success = json.loads((state / "success" / "0.json").read_text())
    root = hashlib.sha256()
    for file in success["files"]:
        file["sha256"] = digest if file["key"] == key else file["sha256"]
        root.update(f"{file['key']} {file['size_bytes']} {file['sha256']}\n".encode())
    success["root_sha256"] = root.hexdigest()
    (state / "success" / "0.json").write_text(json.dumps(success) + "\n")
    assert was != digest


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_a_lost_record_is_followed_by_another_that_takes_over_its_files(out, drawn, damage):
    rows = table(out)
    record = out / "__sdbatch" / "main" / "commits" / "000" / "00001.json"
    record.unlink() if damage == "gone" else record.write_bytes(record.read_bytes()[:80])

    summary = api.repair(out, **ENGINE)

    assert (summary.exit_code, summary.success, summary.failed) == (4, 38, 2)
    if damage == "torn":  # the success record still names its files
        assert drawn == []
        assert table(out) == rows
    same_pictures(rows, table(out))
    assert is_exact(out)


def test_an_open_retry_is_finished_even_where_its_files_rotted(manifest, tmp_path, monkeypatch):
    faults = dict.fromkeys([3, *range(10, 20), 25], "OneError")
    out = spoilt(manifest, tmp_path, monkeypatch, faults=faults, model=SLOW)
    rows = table(out)
    retry_until(1, monkeypatch, out)
    open_ = RunFolder(open_store(out)).open_rework()
    left = RunFolder(open_store(out)).rework_left(open_)
    for shard_id in left:
        for path in (out / "data").glob(f"train-{shard_id:05d}-*"):
            flip(path, path.stat().st_size // 2)

    summary = api.repair(out, **ENGINE)

    assert (summary.exit_code, summary.success) == (0, 40)
    same_pictures(rows, table(out))
    assert is_exact(out)


def test_a_repair_that_was_stopped_is_finished_by_the_same_line(out, monkeypatch):
    rows = table(out)
    file_of(out, "data", 1).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "run", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            api.repair(out, **ENGINE)

    summary = api.repair(out, **ENGINE)

    assert summary.drawn_again == 9
    same_pictures(rows, table(out))
    assert is_exact(out)


@pytest.mark.parametrize("level", [0, 4])
def test_a_level_that_finds_no_damage_is_refused(out, level):
    with pytest.raises(InputError, match="one of 1"):
        api.repair(out, level=level, **ENGINE)


def test_an_unfinished_run_is_not_repaired(manifest, tmp_path, monkeypatch):
    path, out = manifest(40), tmp_path / "out"
    run_until(10, monkeypatch, path, out, model="fake:ms=25", shard_size=10, **INLINE)

    with pytest.raises(InputError, match="let the run be finished first: sdbatch render"):
        api.repair(out, **ENGINE)
