"""What a folder of this machine promises beyond what every store does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdbatch.errors import InputError, LocalDiskError, LocalFileError, StorageError
from sdbatch.storage import local_store
from sdbatch.storage.store import open_store


def test_opening_a_store_creates_nothing(tmp_path):
    opened = open_store(tmp_path / "out")

    assert list(opened.list("")) == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["{}", "file://{}", "local://{}", "{}/"])
def test_all_spellings_of_a_path_are_one_store(tmp_path, form):
    opened = open_store(form.format(tmp_path / "out"))

    assert opened.url == str(tmp_path / "out")
    assert opened.join("a/b") == str(tmp_path / "out" / "a" / "b")


def test_relative_and_home_paths_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert open_store("out").url == str(tmp_path / "out")
    assert open_store("~/out").url == str(tmp_path / "home" / "out")


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "out").write_text("x")

    with pytest.raises(InputError, match="is a file"):
        open_store(tmp_path / "out")


def test_links_do_not_lead_out_of_the_root(tmp_path):
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "secret").write_bytes(b"secret")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data").symlink_to(tmp_path / "away")
    opened = open_store(tmp_path / "out")

    for call in (lambda: opened.get("data/secret"), lambda: opened.put("data/x", b"x")):
        with pytest.raises(InputError, match="leads out of"):
            call()
    assert list(opened.list("")) == []


def test_a_root_that_is_a_link_itself_works(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    opened = open_store(tmp_path / "out")
    opened.put("a/x", b"x")

    assert [info.key for info in opened.list("a/")] == ["a/x"]


@pytest.mark.parametrize("prefix", ["data/", "data", "data/train", "REA"])
def test_a_listing_enters_no_folder_in_which_nothing_can_match(tmp_path, monkeypatch, prefix):
    opened = open_store(tmp_path)
    for key in ("data/train/x", "data/other/y", "neighbour/z/x", "README.md"):
        opened.put(key, b"x")
    entered, scandir = [], os.scandir

    def watch(place):
        entered.append(os.path.relpath(place, tmp_path))
        return scandir(place)

    monkeypatch.setattr(local_store.os, "scandir", watch)
    found = [info.key for info in opened.list(prefix)]

    assert found == [
        key for key in ("README.md", "data/other/y", "data/train/x") if key.startswith(prefix)
    ]
    assert not [place for place in entered if place.startswith("neighbour")]
    assert prefix != "data/train" or "data/other" not in entered


@pytest.mark.parametrize("name", ["README.md", "data/train", "data/"])
def test_whether_a_name_is_taken_is_answered_without_its_neighbours(tmp_path, monkeypatch, name):
    opened = open_store(tmp_path)
    opened.put("neighbour/x", b"x")
    opened.put(f"{name.rstrip('/')}.old", b"x")
    entered, scandir = [], os.scandir

    def watch(place):
        entered.append(os.path.relpath(place, tmp_path))
        return scandir(place)

    monkeypatch.setattr(local_store.os, "scandir", watch)

    assert not opened.exists_any(name)
    assert entered == [name.rstrip("/")]


def test_a_sweep_in_the_middle_of_a_create_costs_nothing(tmp_path, monkeypatch):
    opened = open_store(tmp_path)
    link = os.link

    def link_then_sweep(source, target):
        link(source, target)
        opened.sweep("commits/")

    monkeypatch.setattr(local_store.os, "link", link_then_sweep)

    assert opened.create_once("commits/x", b"x")
    assert opened.get("commits/x") == b"x"


def test_unfinished_writes_are_not_listed_and_can_be_swept(tmp_path):
    opened = open_store(tmp_path)
    opened.put("data/x", b"x")
    opened.put("data/run=b/x", b"x")
    (tmp_path / "data" / ".x.00.tmp").write_bytes(b"half")
    (tmp_path / "data" / "run=b" / ".x.00.tmp").write_bytes(b"half")

    assert [info.key for info in opened.list("data/")] == ["data/run=b/x", "data/x"]
    assert opened.sweep("data/") == 1
    assert opened.sweep("data/", deep=True) == 1
    assert opened.sweep("none/") == 0
    assert opened.get("data/x") == b"x"


@pytest.mark.parametrize("call", ["put", "_create_new"])
def test_a_write_that_fails_leaves_neither_object_nor_leftover(tmp_path, monkeypatch, call):
    opened = open_store(tmp_path)

    def no_space(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local_store.os, "fsync", no_space)
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError, match=r"No space left on device, make room"):
        getattr(opened, call)("a/x", b"x")

    assert list((tmp_path / "a").iterdir()) == []


def test_a_failed_replacement_keeps_the_old_object(tmp_path, monkeypatch):
    opened = open_store(tmp_path)
    opened.put("a/x", b"old")
    monkeypatch.setattr(local_store.os, "fsync", _raise(OSError(5, "Input/output error")))
    with pytest.raises(StorageError, match="Input/output error"):
        opened.put("a/x", b"new")

    assert opened.get("a/x") == b"old"


def test_a_file_system_without_hard_links_is_refused(tmp_path, monkeypatch):
    opened = open_store(tmp_path)
    monkeypatch.setattr(local_store.os, "link", _raise(OSError(1, "not permitted")))

    with pytest.raises(StorageError, match="no hard links"):
        opened.create_once("r", b"x")


def test_a_link_whose_outcome_is_unknown_is_read_back(tmp_path, monkeypatch):
    opened = open_store(tmp_path)
    link = os.link

    def link_and_lose(source, target):
        link(source, target)
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(local_store.os, "link", link_and_lose)

    assert opened.create_once("r", b"x")


def test_a_file_where_a_folder_is_needed_is_one_clear_line(tmp_path):
    (tmp_path / "data").write_text("a file")
    opened = open_store(tmp_path)

    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        opened.put("data/x", b"x")
    assert opened.head("data/x") is None


def test_a_shorter_copy_never_reaches_the_final_name(tmp_path, monkeypatch):
    opened = open_store(tmp_path / "out")
    (tmp_path / "source").write_bytes(b"0123456789")

    def short_copy(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:4])

    monkeypatch.setattr(local_store.shutil, "copyfile", short_copy)
    with pytest.raises(StorageError, match="10 bytes, but 4 arrived"):
        opened.put_file("data/x", tmp_path / "source")

    assert opened.head("data/x") is None


def _full(source, _target):
    raise OSError(28, "No space left on device", str(source), None, "target")


def test_a_full_disk_under_a_fetched_file_is_that_of_the_node(tmp_path, monkeypatch):
    opened = open_store(tmp_path / "out")
    opened.put("data/x", b"x")
    monkeypatch.setattr(local_store.shutil, "copyfile", _full)
    with pytest.raises(LocalDiskError, match="No space left") as caught:
        opened.get_file("data/x", tmp_path / "spool")

    assert caught.value.path == str(tmp_path / "spool")


def test_a_fetch_into_a_folder_that_is_not_there_is_a_fault_of_the_node(tmp_path):
    opened = open_store(tmp_path / "out")
    opened.put("data/x", b"x")

    with pytest.raises(LocalDiskError) as caught:
        opened.get_file("data/x", tmp_path / "none" / "spool")
    assert caught.value.path == str(tmp_path / "none" / "spool")


def test_a_full_output_is_named_and_not_the_disk_it_came_from(tmp_path, monkeypatch):
    opened = open_store(tmp_path / "out")
    (tmp_path / "spool").write_bytes(b"x")
    monkeypatch.setattr(local_store.shutil, "copyfile", _full)
    with pytest.raises(StorageError, match="No space left on device, make room") as caught:
        opened.put_file("data/x", tmp_path / "spool")

    assert not isinstance(caught.value, LocalDiskError)
    assert str(caught.value).startswith(f"{tmp_path / 'out' / 'data' / 'x'}: ")
    assert "spool" not in str(caught.value)


def test_a_missing_file_that_was_to_be_stored_is_no_fault_of_the_store(tmp_path):
    with pytest.raises(LocalFileError, match="spool: No such file") as caught:
        open_store(tmp_path / "out").put_file("data/x", tmp_path / "spool")

    assert not caught.value.retryable
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("call", ["put", "create_once"])
def test_an_output_that_cannot_be_written_names_the_object_and_no_temporary_file(
    tmp_path, monkeypatch, call
):
    opened = open_store(tmp_path)

    def refuse(path, *_rest):
        raise OSError(13, "Permission denied", path)

    monkeypatch.setattr(local_store, "_write", refuse)
    with pytest.raises(StorageError, match="Permission denied, give this user") as caught:
        getattr(opened, call)("lease/000002.json", b"x")

    assert str(caught.value).startswith(f"{tmp_path / 'lease' / '000002.json'}: cannot write")


def test_a_folder_that_cannot_be_made_is_named_itself(tmp_path, monkeypatch):
    def refuse(path, *_rest):
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(local_store.os, "mkdir", refuse)
    with pytest.raises(StorageError, match="Read-only file system, name a folder") as caught:
        open_store(tmp_path / "out").put("lease/x", b"x")

    assert str(caught.value).startswith(f"{tmp_path / 'out'}: ")


def _raise(error):
    def fail(*_args):
        raise error

    return fail
