"""The terms of an export: pinned by the first call, refused when they differ."""

import json

import pytest

from sdbatch.errors import InputError, PlanChangedError
from sdbatch.transfer.terms import Terms, settle


def pinned(**terms):
    return json.loads(json.dumps(Terms(source="p1", **terms).to_body()))


def test_a_call_that_says_nothing_goes_on_with_what_stands():
    standing = pinned(format="files", where="seed > 3", split="train=0.5,val=0.5")
    said = {"source": "p1", "format": None, "where": None, "split": None}

    assert settle("d", said, standing) == Terms(
        source="p1", format="files", where="seed > 3", split="train=0.5,val=0.5"
    )


def test_a_call_that_repeats_what_stands_goes_on_however_shares_are_spelt():
    standing = pinned(split="train=0.5,val=0.5")

    assert settle("d", {"split": {"train": 0.5, "val": 0.5}}, standing).split == "train=0.5,val=0.5"
    assert settle("d", {"split": "train=0.50, val=.5"}, standing).split == "train=0.5,val=0.5"


def test_everything_that_differs_is_named_at_once():
    with pytest.raises(PlanChangedError) as refused:
        settle("dest", {"source": "p2", "where": "seed > 4", "shuffle": True}, pinned(seed=0))

    assert refused.value.exit_code == 2
    assert refused.value.changes == (
        ("dataset", "p1", "p2"),
        ("--where", "nothing", "seed > 4"),
        ("--shuffle", "nothing", "True"),
    )


@pytest.mark.parametrize(
    ("terms", "right"),
    [
        ({"format": "zip"}, "one of parquet, webdataset, files, imagefolder"),
        ({"captions": "json"}, "only txt"),
        ({"captions": "txt"}, "parquet has no file for each picture"),
        ({"name": "{id}"}, "parquet has no file for each picture"),
        ({"folder_by": "label"}, "--format files or imagefolder"),
        ({"folder_by": "label", "format": "webdataset"}, "--format files or imagefolder"),
        ({"split": "a=2"}, "between 0 and 1"),
    ],
)
def test_terms_that_do_not_go_together_are_refused(terms, right):
    with pytest.raises(InputError, match=right):
        settle("d", terms, None)
