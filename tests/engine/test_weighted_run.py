"""Prompts in A1111's syntax through a whole run: planned, drawn, resumed, retried, replayed."""

import json
from pathlib import Path

import numpy as np
import pytest

from sdbatch import api
from sdbatch.engine import job_folder
from sdbatch.errors import JobError, ManifestError, ManifestRowsError, PlanChangedError
from sdbatch.manifest.prompt_syntax import MAX_CHUNKS
from sdbatch.storage.store import open_store
from tests.engine.runs import hashes, pictures

LONG = "a large red circle on white " * 14 + "BREAK a (blue:1.3) star"  # 84 words before the break
PROMPTS = ["red circle", "(red:1.4) circle", LONG, "[red] circle BREAK on white"]
SYNTAX = ["plain", "a1111", "a1111", "a1111"]
SMALL = {"engine": "inline", "size": "32x32", "num_inference_steps": 4}


@pytest.fixture
def weighted(manifest):
    """A manifest whose prompts take one to four chunks; rows of one seed."""

    def write(times=1):
        columns = {"prompt": PROMPTS * times, "prompt_syntax": SYNTAX * times}
        return manifest(4 * times, seed=[7] * 4 * times, **columns)

    return write


def test_a_row_that_cannot_be_drawn_is_refused_in_plan_with_row_and_column(manifest):
    path = manifest(
        5,
        prompt=["a", "a AND b", "a AND b", "a [b:c:0.5]", "<lora:x:1> a"],
        negative_prompt=["[x|y]", None, "", "", ""],
        prompt_syntax=["a1111", None, "a1111", "a1111", "a1111"],
    )

    with pytest.raises(ManifestRowsError) as caught:
        api.plan(path, model="fake", engine="inline")

    said = [(each.row, each.column, each.reason[:10]) for each in caught.value.problems]
    assert said == [
        (0, "negative_prompt", "[a|b] alte"),
        (2, "prompt", "AND compos"),
        (3, "prompt", "[from:to:w"),
        (4, "prompt", "<lora:x:.."),
    ]


def test_an_unknown_syntax_is_refused_with_those_there_are(manifest):
    with pytest.raises(ManifestError, match=r"row 1, column 'prompt_syntax': .*plain or a1111"):
        api.plan(manifest(2, prompt_syntax=["plain", "A1111"]), model="fake", engine="inline")


def test_the_flag_holds_for_rows_that_say_nothing_and_for_the_default_negative_prompt(manifest):
    path = manifest(2, prompt=["a AND b", "c"], prompt_syntax=["plain", None])

    api.plan(path, model="fake", engine="inline", prompt_syntax="a1111")
    with pytest.raises(ManifestError, match="row 0, column 'prompt'"):
        api.plan(manifest(1, prompt=["a AND b"]), model="fake", prompt_syntax="a1111")
    with pytest.raises(JobError, match=r"--negative-prompt: defaults\.negative_prompt: .*AND"):
        api.plan(path, model="fake", prompt_syntax="a1111", negative_prompt="x AND y")


def test_plan_counts_plain_prompts_that_look_weighted_and_names_the_flag(manifest):
    path = manifest(4, prompt=["a (b:1.2)", "a", "((a)) b", "a BREAK b"])

    plain = api.plan(path, model="fake", engine="inline")
    read = api.plan(path, model="fake", engine="inline", prompt_syntax="a1111")

    assert [n for n in plain.notes if "3 prompts look weighted" in n and "--prompt-syntax" in n]
    assert not [note for note in read.notes if "weighted" in note]
    assert plain.settings["defaults.prompt_syntax"].value == "plain"
    assert read.settings["defaults.prompt_syntax"].source == "--prompt-syntax"


def test_only_plain_prompts_are_said_to_be_cut(manifest):
    path = manifest(2, prompt=["x " * 100] * 2, prompt_syntax=["plain", "a1111"])

    notes = api.plan(path, model="shapes", engine="inline").notes

    assert [note for note in notes if "more than the 30 tokens" in note and note.startswith("1 ")]


def test_a_worker_that_tries_for_memory_is_told_of_long_prompts(manifest, tmp_path):
    chunks = {}
    for name, columns in {"with": {"prompt_syntax": ["a1111"]}, "without": {}}.items():
        out = tmp_path / name
        api.render(manifest(1, **columns), out, model="fake", **SMALL)
        chunks[name] = job_folder.read(open_store(out), "main").spec.render.prompt_chunks

    assert chunks == {"with": MAX_CHUNKS, "without": 1}


def test_a_plan_that_stands_is_not_gone_on_with_in_another_syntax(manifest, tmp_path):
    path, out = manifest(2), tmp_path / "out"
    api.render(path, out, model="fake", **SMALL)
    record = next(Path(out).rglob("job.json"))
    before = json.loads(record.read_text())

    with pytest.raises(PlanChangedError, match="prompt_syntax: was plain, now a1111"):
        api.render(path, out, model="fake", prompt_syntax="a1111", **SMALL)

    assert json.loads(record.read_text()) == before


@pytest.mark.render
def test_weights_are_drawn_stored_and_replayed(weighted, tmp_path):
    out = tmp_path / "out"

    summary = api.render(weighted(), out, model="shapes", **SMALL)

    drawn = pictures(out)
    assert summary.exit_code == 0
    assert [drawn[i, 0][0]["prompt_syntax"] for i in range(4)] == SYNTAX
    assert len({drawn[i, 0][0]["row_hash"] for i in range(4)}) == 4
    assert not any(drawn[i, 0][0]["prompt_truncated"] for i in range(4))
    for i in range(1, 4):
        assert not np.array_equal(drawn[0, 0][1], drawn[i, 0][1])
    report = api.open_dataset(out).replay([0, 1, 2, 3])
    assert report.exit_code == 0
    assert [each.equal for each in report.pictures] == [True] * 4


@pytest.mark.render
def test_a_run_that_is_gone_on_with_gives_the_same_pixels(weighted, tmp_path):
    path, out = weighted(times=3), tmp_path / "out"
    options = {"model": "shapes", "shard_size": 4, **SMALL}
    api.render(path, out, **options)
    before = hashes(out)
    store = open_store(out)
    lost = [info.key for folder in ("commits", "success")
            for info in store.list(f"__sdbatch/main/{folder}/")
            if not info.key.endswith("00001.json")]  # fmt: skip
    for key in lost:
        store.delete(key)

    summary = api.render(path, out, **options)

    assert len(lost) == 3  # two of three shards, and the end of the run
    assert summary.exit_code == 0
    assert hashes(out) == before


@pytest.mark.render
def test_a_picture_repaired_is_the_picture_it_was(weighted, tmp_path):
    out = tmp_path / "out"
    api.render(weighted(), out, model="shapes", **SMALL)
    before = hashes(out)
    (data,) = Path(out, "data").glob("*.parquet")
    data.write_bytes(data.read_bytes()[:-9])

    api.repair(out, engine="inline")

    assert hashes(out) == before
