"""A push brings the repository to exactly the export's rows, whatever happens on the way."""

import io
from fnmatch import fnmatch

import huggingface_hub
import huggingface_hub._commit_api
import huggingface_hub.constants
import huggingface_hub.utils
import pyarrow.parquet as pq
import pytest
import yaml

from sdbatch import api
from sdbatch.errors import InputError, StorageError, StoreAccessError
from sdbatch.transfer import export as export_module
from sdbatch.transfer import hub as hub_module
from sdbatch.transfer import push as push_module
from sdbatch.transfer.doors import push
from sdbatch.transfer.hub import Address
from sdbatch.transfer.hub_card import MARK
from tests.engine.reworks import spoil
from tests.transfer.exports import INLINE, ledger, render, rows
from tests.transfer.hub_server import HubServer

URL = "hf://datasets/me/pictures"


@pytest.fixture
def hub(monkeypatch):
    server = HubServer()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # that of these tests
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    # The large-file store that the client prefers speaks a protocol of its own.
    monkeypatch.setattr(huggingface_hub._commit_api, "is_xet_available", lambda: False)
    monkeypatch.setenv("HF_TOKEN", server.token)
    monkeypatch.setattr(hub_module, "PAUSE_S", 0.0)
    huggingface_hub.utils.disable_progress_bars()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(export_module, "MB", 7000)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("dataset") / "out"
    render(out)
    return out


def standing(server, repo="me/pictures", branch="main"):
    """Key to columns of everything in `data/` of a repository."""
    found = {}
    for path, data in server.files(repo, branch).items():
        if path.startswith("data/"):
            for row in pq.read_table(io.BytesIO(data)).to_pylist():
                row.pop("image")
                assert row["key"] not in found
                found[row["key"]] = row
    return found


def test_a_push_brings_every_row_in_few_commits(hub, out, tmp_path, monkeypatch):
    monkeypatch.setattr(push_module, "COMMIT_FILES", 4)
    summary = push(out, URL, spool=tmp_path / "spool", shard_mb=1)

    assert standing(hub) == ledger(out)
    assert summary.commits == len(hub.commits) > 2
    assert max(map(len, hub.commits)) <= 4
    assert hub.commits[-1] == ["README.md"]
    assert hub.repos["me/pictures"]["seen_by"] == "private"
    assert not any(path.startswith("__") for path in hub.files("me/pictures"))


def test_no_commit_ever_holds_a_hundred_files():
    paths = [f"data/{i}" for i in range(1000)]
    made = list(push_module.batches(paths, dict.fromkeys(paths, 500_000_000)))

    assert [path for batch in made for path in batch] == paths
    assert max(map(len, made)) == 10  # five gigabytes
    small = list(push_module.batches(paths, dict.fromkeys(paths, 1)))
    assert max(map(len, small)) == push_module.COMMIT_FILES < 100


def test_a_second_push_sends_nothing_and_a_lost_spool_does_not_matter(hub, out, tmp_path):
    push(out, URL, spool=tmp_path / "one", shard_mb=1)
    commits = len(hub.commits)
    again = push(out, URL, spool=tmp_path / "one", shard_mb=1)
    anew = push(out, URL, spool=tmp_path / "two", shard_mb=1)

    assert (again.commits, again.uploaded, again.deleted) == (0, 0, 0)
    assert anew.uploaded == 0
    assert len(hub.commits) == commits


def test_what_was_drawn_since_is_added_and_what_is_superfluous_deleted(hub, tmp_path, monkeypatch):
    out = tmp_path / "out"
    spoil(monkeypatch, {3: "OneError"})
    render(out, model="fake", count=20)
    push(out, URL, spool=tmp_path / "spool")
    spoil(monkeypatch, {})
    api.retry(out, engine="inline")
    api.render(rows(20, first=50), out, append="n2", model="fake", **INLINE)
    summary = push(out, URL, spool=tmp_path / "spool")

    assert standing(hub) == ledger(out)
    assert summary.deleted > 0
    assert summary.exported.exported == 40


def test_a_reader_of_the_hub_sees_no_row_twice_while_a_push_goes_on(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(push_module, "COMMIT_FILES", 2)
    out = tmp_path / "out"
    render(out, model="fake", count=20)
    push(out, URL, spool=tmp_path / "spool")
    first = set(ledger(out))
    api.render(rows(20, first=50), out, append="n2", model="fake", **INLINE)
    begun, seen = len(hub.commits), []

    def look(method, path, at):
        if "/commit/" in path and at == "before" and len(hub.commits) > begun:
            seen.append(named_keys(hub))

    hub.faults = look
    push(out, URL, spool=tmp_path / "spool")

    assert seen, "no commit lies between the first and the last"
    assert all(sorted(keys) in (sorted(first), sorted(ledger(out))) for keys in seen)
    assert sorted(named_keys(hub)) == sorted(ledger(out))


def named_keys(server):
    """Keys of all rows that the card names, as they stand on the Hub."""
    files = server.files("me/pictures", "main")
    front = yaml.safe_load(files["README.md"].decode().split("---")[1])
    patterns = [path for one in front["configs"][0]["data_files"] for path in one["path"]]
    named = [path for path in files if any(fnmatch(path, pattern) for pattern in patterns)]
    assert len(named) >= len(patterns), "the card names a file that is gone"
    tables = (pq.read_table(io.BytesIO(files[path]), columns=["key"]) for path in named)
    return [key for table in tables for key in table["key"].to_pylist()]


@pytest.mark.parametrize("fault", ["drop", 500, 503])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["commit", "batch", "/upload/", "preupload", "tree", "create"])
def test_a_connection_that_drops_once_costs_nothing(what, when, fault, hub, out, tmp_path):
    left = [1]

    def once(method, path, at):
        if what in path and at == when and left:
            left.pop()
            return fault
        return None

    hub.faults = once
    push(out, URL, spool=tmp_path / "spool", shard_mb=1)

    assert not left, "the fault was never met"
    assert standing(hub) == ledger(out)
    paths = [path for commit in hub.commits for path in commit]
    assert len(paths) == len(set(paths)), "a file was committed twice"


def test_a_push_that_ends_in_the_middle_is_gone_on_with(hub, out, tmp_path, monkeypatch):
    monkeypatch.setattr(push_module, "COMMIT_FILES", 2)
    calls = 0
    while True:
        calls += 1
        begun = len(hub.commits)
        hub.faults = lambda method, path, at, begun=begun: (
            403 if "/commit/" in path and at == "before" and len(hub.commits) > begun else None
        )
        try:
            push(out, URL, spool=tmp_path / "spool", shard_mb=1)
        except StoreAccessError:
            assert len(hub.commits) == begun + 1
            continue
        break

    assert calls > 2
    assert standing(hub) == ledger(out)
    assert len(hub.uploads) == len(set(hub.uploads)), "bytes were sent twice"


def test_a_hub_that_stays_away_is_given_up(hub, out, tmp_path):
    hub.faults = lambda method, path, at: "drop" if "/commit/" in path else None
    with pytest.raises(StorageError, match="cannot commit") as given_up:
        push(out, URL, spool=tmp_path / "spool", shard_mb=1)

    assert hub.token not in str(given_up.value)


def test_a_token_that_may_not_write_is_told_at_once(hub, out, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    with pytest.raises(StoreAccessError, match="token that may write"):
        push(out, URL, spool=tmp_path / "spool", shard_mb=1)

    assert len([path for _, path in hub.requests if "create" in path]) == 1


def test_nobody_logged_in_is_told_before_anything_is_written(out, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(InputError, match="hf auth login"):
        push(out, URL, spool=tmp_path / "spool")

    assert not (tmp_path / "spool").exists()


def test_a_branch_is_made_and_pushed_to(hub, out, tmp_path):
    push(out, f"{URL}@trial", spool=tmp_path / "spool", shard_mb=1, public=True)

    assert standing(hub, branch="trial") == ledger(out)
    assert hub.files("me/pictures") == {}
    assert hub.repos["me/pictures"]["seen_by"] == "public"


def test_licence_and_text_that_people_wrote_on_the_hub_stay(hub, tmp_path):
    out = tmp_path / "out"
    render(out, count=6, model="fake")
    push(out, URL, spool=tmp_path / "spool")
    files = hub.repos["me/pictures"]["branches"]["main"]
    card = files["README.md"].decode()
    assert MARK in card
    files["README.md"] = card.replace("license: other", "license: cc0-1.0").encode()
    files["notes.txt"] = b"mine"
    api.render(rows(3, first=50), out, append="n2", model="fake", **INLINE)
    push(out, URL, spool=tmp_path / "spool")
    card = files_of(hub)["README.md"].decode()

    assert yaml.safe_load(card.split("---")[1])["license"] == "cc0-1.0"
    assert "9 pictures" in card
    hub.repos["me/pictures"]["branches"]["main"]["README.md"] = card.replace(
        MARK, "# My own words"
    ).encode()
    api.render(rows(3, first=80), out, append="n3", model="fake", **INLINE)
    push(out, URL, spool=tmp_path / "spool")
    card = files_of(hub)["README.md"].decode()

    assert "# My own words" in card
    assert "9 pictures" in card
    assert files_of(hub)["notes.txt"] == b"mine"
    assert standing(hub) == ledger(out)


def files_of(hub):
    return hub.files("me/pictures")


@pytest.mark.parametrize(
    "url",
    ["hf://me/pictures", "hf://datasets/pictures", "https://huggingface.co/datasets/a/b",
     "hf://datasets/a/b/c", "hf://datasets/a/b@", "hf://datasets/../b c", "s3://bucket/x", ""],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url, out):
    with pytest.raises(InputError, match="write hf://datasets/USER/NAME"):
        push(out, url)


def test_addresses_are_read():
    assert Address.parse("hf://datasets/a/b.c-d") == Address("a/b.c-d", "main")
    assert Address.parse("hf://datasets/a/b@v1.0/x") == Address("a/b", "v1.0/x")
    assert str(Address("a/b", "dev")) == "hf://datasets/a/b@dev"
