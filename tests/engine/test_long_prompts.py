import pytest

from sdbatch import api
from sdbatch.engine import long_prompts


@pytest.fixture
def notes(manifest):
    def _notes(prompts):
        report = api.plan(manifest(len(prompts), prompt=prompts), engine="inline")
        return [note for note in report.notes if "tokens" in note]

    return _notes


LONG = "red circle " * 30


def test_long_prompts_are_counted_before_the_run(notes):
    assert notes(["a red circle", LONG, LONG]) == [
        "2 of 3 prompts have more than the 30 tokens that model 'shapes' reads: "
        "what comes after them is not drawn"
    ]


def test_prompts_that_fit_need_no_word(notes):
    assert notes(["a red circle"]) == []


def test_of_a_long_manifest_a_sample_is_counted(notes, monkeypatch):
    monkeypatch.setattr(long_prompts, "WINDOW_ROWS", 5)

    (note,) = notes([LONG] * 50)

    assert note.startswith("20 of a sample of 20 prompts have more")
