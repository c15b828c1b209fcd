"""An export holds exactly the rows that were asked for, and stays exact as the dataset grows."""

import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.errors import DamagedError, InputError, PlanChangedError
from sdbatch.transfer import choice
from sdbatch.transfer import export as export_module
from sdbatch.transfer.doors import export
from tests.engine.reworks import spoil
from tests.transfer.exports import (
    FORMATS,
    INLINE,
    content,
    draw_otherwise,
    ledger,
    objects,
    order,
    pictures_on_disk,
    read,
    render,
    rows,
)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Forty rows in five shards, some of which failed."""
    out = tmp_path_factory.mktemp("dataset") / "out"
    assert render(out).failed > 0
    return out


@pytest.fixture
def small_files(monkeypatch):
    """Output files hold about ten pictures."""
    monkeypatch.setattr(export_module, "MB", 7000)
    monkeypatch.setattr(choice, "PART_PICTURES", 10)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_row_equals_the_ledger(kind, out, tmp_path, small_files):
    summary = export(out, tmp_path / "d", format=kind, shard_mb=1)

    assert read(tmp_path / "d") == ledger(out)
    assert summary.files > 2
    assert (summary.read, summary.exported + summary.failed) == (40, 40)
    assert summary.new == summary.written == summary.exported


@pytest.mark.parametrize("kind", FORMATS)
def test_a_second_call_finds_nothing_to_do_and_writes_nothing(kind, out, tmp_path, small_files):
    export(out, tmp_path / "d", format=kind, shard_mb=1)
    before = objects(tmp_path / "d")
    summary = export(out, tmp_path / "d")

    assert objects(tmp_path / "d") == before
    assert (summary.new, summary.written) == (0, 0)
    assert summary.exported == len(ledger(out))


def test_the_summary_adds_up_and_says_so(out, tmp_path):
    summary = export(out, tmp_path / "d", where="seed >= 10 and label is not null")
    kept = {
        key for key, row in ledger(out).items() if row["seed"] >= 10 and row["label"] is not None
    }

    assert set(read(tmp_path / "d")) == kept
    assert summary.exported == len(kept)
    assert summary.read == summary.exported + summary.left_out + summary.failed
    assert summary.describe().splitlines()[0] == (
        f"read 40 = exported {len(kept)} + left out by --where {summary.left_out} "
        f"+ failed {summary.failed}"
    )


def test_a_condition_that_no_row_meets_gives_an_empty_export_that_reads(out, tmp_path):
    summary = export(out, tmp_path / "d", where="seed > 1000")

    assert (summary.exported, summary.files) == (0, 0)
    assert "configs" not in (tmp_path / "d" / "README.md").read_text()
    assert export(out, tmp_path / "d").written == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_an_appended_run_adds_its_rows_and_keeps_the_files_that_stand(kind, tmp_path, small_files):
    out, dest = tmp_path / "out", tmp_path / "d"
    render(out)
    export(out, dest, format=kind, shard_mb=1)
    before = content(dest)
    api.render(rows(20, first=100), out, append="night2", model="fake", shard_size=9, **INLINE)
    summary = export(out, dest, shard_mb=1)

    assert read(dest) == ledger(out)
    assert summary.new == 20
    kept = {name for name, digest in content(dest).items() if before.get(name) == digest}
    lists = sum(name.endswith("metadata.parquet") for name in before)
    merged = 2 if kind in ("parquet", "webdataset") else 0
    assert len(kept) >= len(before) - lists - merged


@pytest.mark.parametrize("kind", FORMATS)
def test_a_retry_adds_what_it_drew(kind, tmp_path, monkeypatch, small_files):
    out, dest = tmp_path / "out", tmp_path / "d"
    spoil(monkeypatch, {3: "OneError", 17: "OneError"})
    render(out, model="fake")
    export(out, dest, format=kind, shard_mb=1)
    spoil(monkeypatch, {})
    api.retry(out, engine="inline")
    summary = export(out, dest, shard_mb=1)

    assert read(dest) == ledger(out)
    assert (summary.new, summary.failed) == (2, 0)


@pytest.mark.parametrize("kind", FORMATS)
def test_pictures_that_changed_replace_those_that_stood(kind, tmp_path, monkeypatch, small_files):
    out, dest = tmp_path / "out", tmp_path / "d"
    render(out)
    export(out, dest, format=kind, shard_mb=1)
    files = sorted((out / "data").glob("*.parquet"))
    files[1].write_bytes(files[1].read_bytes()[:100])
    draw_otherwise(monkeypatch)
    api.repair(out, engine="inline")
    summary = export(out, dest, shard_mb=1)

    assert read(dest) == ledger(out)
    assert summary.new == 0
    assert summary.written >= 7
    if kind in ("files", "imagefolder"):
        assert len(pictures_on_disk(dest)) == summary.exported


def test_an_unfinished_dataset_is_exported_as_far_as_it_is(tmp_path):
    out, dest = tmp_path / "out", tmp_path / "d"
    render(out, model="fake", stop_after_failed=None, limit=40)
    record = sorted((out / "__sdbatch/main/commits/000").iterdir())[-1]
    held = record.read_bytes()
    for success in (out / "__sdbatch/main/success").iterdir():
        success.unlink()
    record.unlink()
    first = export(out, dest)
    record.write_bytes(held)
    second = export(out, dest)

    assert first.unfinished == ("main",)
    assert "not finished: main" in first.describe()
    assert (first.exported, second.exported, second.new) == (36, 40, 4)
    assert read(dest) == ledger(out)


def test_small_files_are_joined_as_the_dataset_grows(tmp_path):
    out, dest = tmp_path / "out", tmp_path / "d"
    render(out, count=10)
    export(out, dest)
    for night in range(3):
        new = rows(10, first=100 + 10 * night)
        api.render(new, out, append=f"n{night}", model="fake", **INLINE)
        summary = export(out, dest)

    assert summary.files == len(list((dest / "data").iterdir())) == 1
    assert read(dest) == ledger(out)
    assert order(dest) == list(ledger(out))


def test_latest_takes_each_row_from_the_newest_run_it_stands_in(tmp_path):
    out, dest = tmp_path / "out", tmp_path / "d"
    render(out, count=12, model="fake")
    export(out, dest, latest=True)
    api.render(rows(8), out, append="again", model="fake", seed=5, **INLINE)
    summary = export(out, dest)
    runs = {row["row_id"]: row["run_id"] for row in read(dest).values()}

    assert len(runs) == len(read(dest)) == 12
    assert sorted(runs.values()) == ["again"] * 8 + ["main"] * 4
    assert (summary.read, summary.exported, summary.older) == (20, 12, 8)


def test_random_order_is_that_of_the_seed_however_it_is_cut(out, tmp_path, small_files):
    export(out, tmp_path / "a", shuffle=True, seed=7, shard_mb=1)
    export(out, tmp_path / "b", shuffle=True, seed=7, shard_mb=1000)
    export(out, tmp_path / "c", shuffle=True, seed=8, shard_mb=1)

    assert order(tmp_path / "a") == order(tmp_path / "b") != order(tmp_path / "c")
    assert sorted(order(tmp_path / "a")) == sorted(ledger(out)) != order(tmp_path / "a")


def test_random_order_is_the_same_when_the_disk_holds_one_file_at_a_time(
    out, tmp_path, small_files, monkeypatch
):
    export(out, tmp_path / "a", shuffle=True, shard_mb=1)
    monkeypatch.setattr("sdbatch.transfer.writing.DISK_SHARE", 0.0)
    export(out, tmp_path / "b", shuffle=True, shard_mb=1)

    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize("kind", FORMATS)
def test_no_row_changes_its_split_when_the_dataset_grows(kind, tmp_path, small_files):
    out, dest = tmp_path / "out", tmp_path / "d"
    shares = "train=0.6,val=0.3,test=0.1"
    render(out, model="fake")
    export(out, dest, format=kind, split=shares, shard_mb=1)
    before = {split: set(read(dest, split)) for split in ("train", "val", "test")}
    api.render(rows(60, first=100), out, append="more", model="fake", **INLINE)
    summary = export(out, dest, shard_mb=1)
    after = {split: set(read(dest, split)) for split in ("train", "val", "test")}

    assert all(before[split] <= after[split] for split in before)
    assert {split: len(keys) for split, keys in after.items()} == summary.splits
    assert set().union(*after.values()) == set(ledger(out))
    assert sum(summary.splits.values()) == 100


def test_names_come_from_columns_and_folders_from_values(out, tmp_path):
    dest = tmp_path / "d"
    export(out, dest, format="imagefolder", folder_by="label", name="{id}", captions="txt")
    names = pictures_on_disk(dest)

    assert {name.split("/")[1] for name in names} == {"cat", "a dog_é", "none", "CON_"}
    assert len({name.lower() for name in names}) == len(names) == len(ledger(out))
    assert all(name.split("/")[0] == "train" for name in names)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.iterdir()] == ["d"]
    for row in pq.read_table(dest / "train" / "metadata.parquet").to_pylist():
        caption = (dest / "train" / row["file_name"]).with_suffix(".txt")
        assert caption.read_text() == row["prompt"]


FUSED = ["a/b", "a:b", "a_b", "A_B", None, "none", "x" * 200 + "1", "x" * 200 + "2"]


def test_each_value_has_a_folder_of_its_own_in_all_splits_and_calls(tmp_path, small_files):
    out, dest = tmp_path / "out", tmp_path / "d"
    table = [{"prompt": "p", "seed": i, "label": FUSED[i % len(FUSED)]} for i in range(48)]
    api.render(table, out, model="fake", shard_size=9, **INLINE)
    terms = {"format": "imagefolder", "folder_by": "label", "split": "train=0.5,val=0.5"}
    export(out, dest, shard_mb=1, **terms)
    before = pictures_on_disk(dest)
    api.render(table[::-1], out, append="more", model="fake", **INLINE)
    export(out, dest, shard_mb=1)
    folders = {}
    for split in ("train", "val"):
        for row in pq.read_table(dest / split / "metadata.parquet").to_pylist():
            folders.setdefault(row["label"], set()).add(row["file_name"].split("/")[0])

    assert set(folders) == set(FUSED)
    assert all(len(named) == 1 for named in folders.values()), folders
    assert len({name.lower() for named in folders.values() for name in named}) == len(FUSED)
    assert set(before) <= set(pictures_on_disk(dest))
    assert read(dest) == ledger(out)


def test_names_stay_those_of_the_first_call(tmp_path, small_files):
    out, dest = tmp_path / "out", tmp_path / "d"
    render(out, model="fake")
    export(out, dest, format="files", name="{label}", shard_mb=1)
    before = content(dest)
    api.render(rows(40, first=40), out, append="more", model="fake", **INLINE)
    export(out, dest, shard_mb=1)
    after = content(dest)

    assert all(after[name] == before[name] for name in before if name.endswith(".png"))
    assert len(pictures_on_disk(dest)) == 80
    assert read(dest) == ledger(out)


def test_other_terms_are_refused_with_a_table_and_write_nothing(out, tmp_path):
    export(out, tmp_path / "d", where="seed > 3")
    before = objects(tmp_path / "d")
    with pytest.raises(PlanChangedError) as refused:
        export(out, tmp_path / "d", where="seed > 4", format="files")

    assert refused.value.exit_code == 2
    assert [name for name, _, _ in refused.value.changes] == ["--format", "--where"]
    assert objects(tmp_path / "d") == before


def test_another_dataset_is_refused_at_the_same_place(out, tmp_path):
    export(out, tmp_path / "d")
    render(tmp_path / "other", count=3)

    with pytest.raises(PlanChangedError, match="dataset: was"):
        export(tmp_path / "other", tmp_path / "d")


@pytest.mark.parametrize("place", ["", "data", "data/inner"])
def test_the_dataset_itself_is_no_place_to_export_to(place, tmp_path):
    render(tmp_path / "out", count=3)
    before = objects(tmp_path / "out")

    with pytest.raises(InputError, match="another folder"):
        export(tmp_path / "out", tmp_path / "out" / place)
    with pytest.raises(InputError, match="another folder"):
        export(tmp_path / "out", tmp_path)
    assert objects(tmp_path / "out") == before


def test_a_folder_that_holds_other_things_is_refused(out, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="empty folder"):
        export(out, tmp_path / "d")

    assert [path.name for path in (tmp_path / "d").iterdir()] == ["thesis.txt"]
    render(tmp_path / "export", count=3)
    with pytest.raises(InputError, match="empty folder"):
        export(out, tmp_path / "export")


@pytest.mark.parametrize(
    ("terms", "right"),
    [
        ({"where": "sed > 3"}, "seed"),
        ({"where": "seed >"}, "where"),
        ({"where": "label > 3"}, "label"),
        ({"format": "files", "folder_by": "lable"}, "did you mean 'label'"),
        ({"format": "files", "name": "{sed}"}, "did you mean 'seed'"),
        ({"shard_mb": 0}, "--shard-mb 0"),
        ({"split": "train=2"}, "between 0 and 1"),
    ],
)
def test_terms_that_do_not_fit_the_dataset_write_nothing(terms, right, out, tmp_path):
    with pytest.raises(InputError, match=right):
        export(out, tmp_path / "d", **terms)

    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("kind", ["files", "imagefolder"])
def test_a_column_that_readers_take_for_a_picture_is_refused_and_writes_nothing(kind, tmp_path):
    api.render(rows(3, photo_file_name="x.png"), tmp_path / "out", model="fake", **INLINE)
    with pytest.raises(InputError, match=r"'photo_file_name'.*use --format parquet"):
        export(tmp_path / "out", tmp_path / "d", format=kind)

    assert not (tmp_path / "d").exists()
    assert export(tmp_path / "out", tmp_path / "tars", format="webdataset").exported == 3


def test_pictures_of_two_formats_do_not_go_into_tars_of_which_readers_see_one(tmp_path):
    out = tmp_path / "out"
    api.render(rows(3), out, model="fake", **INLINE)
    api.render(rows(4), out, append="n1", model="fake", image_format="jpeg", **INLINE)
    with pytest.raises(InputError, match=r"jpeg and png.*--where"):
        export(out, tmp_path / "d", format="webdataset")

    assert not (tmp_path / "d").exists()
    assert export(out, tmp_path / "d", format="webdataset", where="format = 'png'").exported == 3
    assert export(out, tmp_path / "f", format="files").exported == 7


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        export(tmp_path / "nothing", tmp_path / "d")


def test_a_damaged_picture_is_not_passed_on(tmp_path):
    out = tmp_path / "out"
    render(out, model="fake")
    path = sorted((out / "data").glob("*.parquet"))[0]
    data = bytearray(path.read_bytes())
    at = data.index(b"\x89PNG") + 100
    data[at] ^= 1
    path.write_bytes(data)

    with pytest.raises(DamagedError, match="sdbatch repair"):
        export(out, tmp_path / "d")
