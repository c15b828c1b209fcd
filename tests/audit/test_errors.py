"""Failures in groups: what is alike stands together, all are counted, few are read."""

import json

import pytest

from sdbatch.audit import errors as errors_module
from sdbatch.audit.errors import BATCH_ROWS, OTHER, find_failures, normalised
from sdbatch.errors import InputError
from sdbatch.storage import layout
from tests.audit.tiny_dataset import (
    memory_store,
    shard_rows,
    write_dataset,
    write_job,
    write_shard,
)


@pytest.fixture
def store():
    return memory_store()


def failure(number, error_type="FakeError", message="chosen", **facts):
    return {
        "key": f"{number:09d}_000", "row_index": number, "image_index": 0, "shard_id": 0,
        "status": "failed", "error_type": error_type, "error_message": message,
        "prompt": f"prompt {number}", "traceback": "", **facts,
    }  # fmt: skip


def with_failures(store, *failures, shard=0):
    """A run of three shards, of which one is committed with these failures."""
    write_job(store)
    write_shard(store, shard, shard_rows(shard)[0][:1], list(failures))
    key = layout.commit_key("main", shard)
    record = json.loads(store.get(key))
    types = [one["error_type"] for one in failures]
    record["errors"] = {name: types.count(name) for name in types}
    store.put(key, json.dumps(record).encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tried to allocate 20.00 MiB", "tried to allocate 1,024 MiB"),
        ("at 0x7f3b2c", "at 0x1"),
        ("object 3f2a9c1d7b", "object 00ff00ff00"),
        (
            "token 12345678-1234-1234-1234-123456789abc",
            "token 87654321-1234-1234-1234-cba987654321",
        ),
        ("/tmp/a/b.png: no such file", "/home/x/yz.png: no such file"),
        ("s3://bucket/a?x=1 is away", "https://other/b is away"),
        ("m.parquet, row 3, column 'seed'", "m.parquet, row 71, column 'seed'"),
        ("two\n  lines", "two lines"),
    ],
)
def test_what_differs_only_in_numbers_hex_paths_and_urls_is_alike(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no module 'a'", "no module 'b'"),
        ("latents hold NaN", "pixels hold NaN"),
        ("out of memory", "out of file handles"),
        ("facade deadbeat", "decade deadbeat"),
    ],
)
def test_different_words_are_different_groups(one, other):
    assert normalised(one) != normalised(other)


def test_nothing_failed_is_said(store, monkeypatch):
    monkeypatch.setattr("tests.audit.tiny_dataset.FAILED", set())
    write_dataset(store)
    failures = find_failures(store)

    assert (failures.failed, failures.groups) == (0, ())
    assert failures.describe() == f"{store.url}: nothing failed"


def test_a_folder_without_a_run_is_refused(store):
    with pytest.raises(InputError, match="holds no run"):
        find_failures(store)


def test_groups_come_with_count_reason_two_rows_and_the_fix_most_frequent_first(store):
    with_failures(
        store,
        failure(1, "NonFiniteError", "latents hold NaN", traceback="Traceback\n  deep\nNaN"),
        *(failure(n, "OutOfMemoryError", f"tried to allocate {n} MiB") for n in range(5, 9)),
    )
    failures = find_failures(store)
    first, second = failures.groups

    assert (first.error_type, first.count, second.count) == ("OutOfMemoryError", 4, 1)
    assert first.message == "tried to allocate # MiB"
    assert [example.key for example in first.examples] == ["000000005_000", "000000006_000"]
    assert [example.prompt for example in first.examples] == ["prompt 5", "prompt 6"]
    assert first.command == f"sdbatch retry {store.url} --error-type OutOfMemoryError"
    assert second.command.endswith("--error-type NonFiniteError --reseed 1")
    assert second.traceback.startswith("Traceback")
    assert (failures.failed, failures.kinds, failures.counted) == (5, 2, 5)
    assert json.loads(json.dumps(failures.to_json()))["groups"][0]["count"] == 4


def test_people_are_shown_few_lines_and_with_full_all_of_them(store):
    trace = "\n".join(f"line {n}" for n in range(50))
    with_failures(store, failure(1, message="m" * 1000, prompt="p" * 1000, traceback=trace))
    short, full = (find_failures(store).describe(full=full) for full in (False, True))

    assert "line 49" in short
    assert "line 3\n" not in short
    assert "--full shows all" in short
    assert max(map(len, short.splitlines())) < 400
    assert "line 3\n" in full
    assert "m" * 1000 in full
    assert "p" * 1000 in full


def test_a_run_that_goes_on_says_so(store):
    with_failures(store, failure(1))

    assert "in 1 of 3 shards committed so far" in find_failures(store).describe()


def test_a_rows_fault_is_to_be_corrected_and_not_retried(store):
    with_failures(store, failure(1, "ManifestError", "m.parquet, row 1: no prompt"))
    (group,) = find_failures(store).groups

    assert group.command == ""
    assert "correct it in the manifest" in group.advice


def test_a_type_narrows_and_an_unknown_one_names_those_there(store):
    with_failures(store, failure(1, "A"), failure(2, "B"), failure(3, "B"))

    assert [group.error_type for group in find_failures(store, error_type="B").groups] == ["B"]
    assert find_failures(store, error_type="B").counted == 2
    with pytest.raises(InputError, match="there are A, B"):
        find_failures(store, error_type="C")


def test_what_a_prompt_holds_cannot_steer_the_terminal(store):
    with_failures(store, failure(1, message="bad\x1b[2J", prompt="\x1b]0;own\x07\r\n\x9b31m"))
    shown = find_failures(store).describe()

    assert "\\x1b[2J" in shown
    assert all(line.isprintable() for line in shown.splitlines())


def test_twenty_groups_are_shown_and_the_rest_is_counted(store):
    words = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    failures = [failure(n, message=f"word {word}") for n, word in enumerate(words)]
    with_failures(store, *failures, *failures[:3])
    found = find_failures(store)

    assert (len(found.groups), found.kinds, found.counted) == (20, 64, 67)
    assert [group.count for group in found.groups[:4]] == [2, 2, 2, 1]
    assert "... and 44 more kinds with 44 failures" in found.describe()


def test_however_many_kinds_there_are_only_so_many_are_kept_and_all_counted(store, monkeypatch):
    monkeypatch.setattr(errors_module, "MAX_GROUPS", 5)
    words = [f"{a}{b}" for a in "abcd" for b in "abcd"]
    with_failures(store, *(failure(n, message=f"word {word}") for n, word in enumerate(words)))
    found = find_failures(store)

    assert found.kinds == 6
    assert found.groups[0].message == OTHER
    assert found.groups[0].count == 11
    assert "further messages, such as: word " in found.describe()


def test_examples_are_found_in_any_batch_and_row_group(store):
    number = BATCH_ROWS + 500
    rows = [failure(n) for n in range(number)]
    rows[-1] = failure(number - 1, "Rare", "once", prompt="the last one")
    with_failures(store, *rows)
    common, rare = find_failures(store).groups

    assert (common.count, rare.count) == (number - 1, 1)
    assert [example.prompt for example in rare.examples] == ["the last one"]
    assert common.examples[0].key == "000000000_000"


def test_a_lost_or_damaged_file_is_counted_and_the_others_are_read(store):
    with_failures(store, failure(1))
    write_shard(store, 1, *shard_rows(1))
    key = RunKeys.errors_of(store, 0)
    store.put(key, b"PAR1 no more")
    found = find_failures(store)
    store.delete(key)

    assert found.unread == find_failures(store).unread == (key,)
    assert [group.error_type for group in found.groups] == ["NonFiniteError"]
    assert "1 files of errors/ cannot be read, see: sdbatch verify" in found.describe()


class RunKeys:
    @staticmethod
    def errors_of(store, shard):
        return json.loads(store.get(layout.commit_key("main", shard)))["errors_file"]["key"]


def test_files_of_a_dataset_without_prompts_are_grouped_too(store):
    write_dataset(store)
    (group,) = find_failures(store).groups

    assert (group.error_type, group.count, group.examples[0].prompt) == ("NonFiniteError", 2, "")
