"""Reports over real small datasets: finished, unfinished, damaged, too large for the page."""

import json
import re

import pytest

from sdbatch import api
from sdbatch.errors import InputError, StorageError
from sdbatch.storage.store import open_store
from tests.audit.tiny_dataset import memory_store, write_dataset
from tests.report.test_page import Parts


def gallery(path):
    parts = Parts()
    parts.feed(path.read_text(encoding="utf-8"))
    return json.loads(parts.scripts[0])


@pytest.fixture
def dataset(manifest, tmp_path):
    """Two hundred pictures in ten shards, some of which failed."""
    api.render(
        manifest(200, tag=[f"tag {i % 3}" for i in range(200)]), tmp_path / "out",
        model="fake:fail=0.05", size="64x64", shard_size=20, engine="inline", allow_failed="100%",
    )  # fmt: skip
    return tmp_path / "out"


def test_a_small_dataset_is_shown_whole(dataset, tmp_path):
    made = api.report(dataset, out=tmp_path / "r.html")
    cards = gallery(tmp_path / "r.html")["cards"]

    assert made.shown == made.pictures == len(cards) == 200
    assert [card[0] for card in cards] == [f"{i:09d}_000" for i in range(200)]
    failed = api.open_dataset(dataset).errors().num_rows
    assert sum(card[1] == "failed" for card in cards) == failed > 0
    assert all((card[3] is None) == (card[1] == "failed") for card in cards)
    assert "All 200 pictures." in (tmp_path / "r.html").read_text()


def test_a_sample_is_spread_says_so_and_is_the_same_every_time(dataset, tmp_path):
    made = api.report(dataset, out=tmp_path / "r.html", max_pictures=50)
    again = api.report(dataset, out=tmp_path / "s.html", max_pictures=50)
    keys = [card[0] for card in gallery(tmp_path / "r.html")["cards"]]

    assert made.shown == again.shown == 50
    assert keys == [card[0] for card in gallery(tmp_path / "s.html")["cards"]]
    assert {int(key[:9]) // 20 for key in keys} == set(range(10))
    assert "A sample: 50 of 200 pictures" in (tmp_path / "r.html").read_text()


def test_numbers_count_the_whole_dataset_however_small_the_sample(dataset, tmp_path):
    api.report(dataset, out=tmp_path / "r.html", max_pictures=10)
    text = (tmp_path / "r.html").read_text()
    tags = re.findall(r'title="tag (\d)">tag \d</th>.*?class="number">(\d+)<', text)

    assert sorted(tags) == [("0", "67"), ("1", "67"), ("2", "66")]


def test_a_page_stays_below_its_size_with_fewer_pictures(dataset, tmp_path):
    whole = api.report(dataset, out=tmp_path / "r.html")
    small = api.report(dataset, out=tmp_path / "r.html", max_mb=0.5)
    from sdbatch.report.make import page_of

    facts, page = page_of(open_store(dataset), ["main"], 200, whole.size_bytes // 2)

    assert small.size_bytes <= 500_000
    assert len(page) <= whole.size_bytes // 2
    assert 20 < len(facts.cards) < 200


def test_an_unfinished_run_is_told_as_such(tmp_path):
    from sdbatch.report.make import page_of

    store = memory_store()
    write_dataset(store, shards=(0, 2), success=False)
    facts, page = page_of(store, ["main"], 100, 10**7)

    assert facts.committed == 6
    assert b"of 12 planned" in page


def test_a_lost_file_leaves_a_page_without_its_rows(dataset, tmp_path):
    lost = next((dataset / "metadata").iterdir())
    lost.unlink()
    damaged = next((dataset / "data").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:1000])
    made = api.report(dataset, out=tmp_path / "r.html")

    assert made.unread == 1
    assert 150 < made.shown < 200
    assert "1 files could not be read" in made.describe()


def test_a_folder_without_a_run_and_limits_without_sense_are_refused(dataset, tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        api.report(tmp_path / "empty", out=tmp_path / "r.html")
    for wrong in ({"max_pictures": -1}, {"max_mb": 0}, {"max_mb": float("nan")}):
        with pytest.raises(InputError, match="--max-"):
            api.report(dataset, out=tmp_path / "r.html", **wrong)
    assert not (tmp_path / "r.html").exists()


def test_a_place_that_cannot_be_written_is_named(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can be written"):
        api.report(dataset, out=tmp_path / "file" / "r.html")
