"""Splits and random order: by key alone, the same for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import InputError
from sdbatch.records import image_key
from sdbatch.transfer.split import Splits, shuffled_place

KEYS = [image_key(row, 0) for row in range(20_000)]


def test_shares_are_met_and_every_row_has_one_split():
    splits = Splits.parse("train=0.8,val=0.15,test=0.05")
    counts = dict.fromkeys(splits.names, 0)
    for key in KEYS:
        counts[splits.of(key)] += 1

    assert sum(counts.values()) == len(KEYS)
    for name, share in {"train": 0.8, "val": 0.15, "test": 0.05}.items():
        assert abs(counts[name] / len(KEYS) - share) < 0.01


def test_all_pictures_of_a_row_lie_on_one_side():
    splits = Splits.parse("train=0.5,val=0.5")
    for run in ("main", "night_2"):
        for row in range(100):
            assert len({splits.of(image_key(row, image, run)) for image in range(5)}) == 1


def test_a_key_has_the_split_it_always_had():
    """Values of the first release: another hash would move rows of exports that grow."""
    splits = Splits.parse("train=0.5,val=0.5")

    assert [splits.of(key) for key in KEYS[:8]] == GOLDEN_SPLITS
    assert [shuffled_place(key, 0) for key in KEYS[:2]] == GOLDEN_PLACES


GOLDEN_SPLITS = ["train", "train", "train", "train", "train", "val", "train", "val"]
GOLDEN_PLACES = [7506837429203193652, 6569295745641657573]


def test_without_shares_all_is_train():
    assert Splits.parse("").names == ("train",)
    assert {Splits.parse("").of(key) for key in KEYS[:100]} == {"train"}


def test_a_mapping_says_the_same_as_text():
    assert Splits.parse({"train": 0.95, "val": 0.05}) == Splits.parse("train=0.95, val=0.05")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("train=0.9,val=0.2", "1.1, shares must be 1"),
        ("train=0.9", "0.9, shares must be 1"),
        ("train", "no number"),
        ("train=a,val=b", "no number"),
        ("train=nan", "between 0 and 1"),
        ("train=0,val=1", "between 0 and 1"),
        ("train=1.5,val=-0.5", "between 0 and 1"),
        ("a=0.5,A=0.5", "two splits have one name"),
        ("../x=1", "letters, digits"),
        ("in-place=1", "letters, digits"),
        ("=1", "letters, digits"),
    ],
)
def test_shares_that_cannot_be_meant_are_refused(text, right):
    with pytest.raises(InputError, match=right):
        Splits.parse(text)


def test_thirds_that_are_one_together_are_taken():
    shares = "a=0.3333333333,b=0.3333333333,c=0.3333333334"

    assert {Splits.parse(shares).of(key) for key in KEYS[:200]} == {"a", "b", "c"}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.text(min_size=1, max_size=20))
def test_every_key_finds_a_split_whatever_the_shares(weights, key):
    shares = {f"s{i}": weight / sum(weights) for i, weight in enumerate(weights)}

    assert Splits.parse(shares).of(key) in shares


def test_each_seed_has_its_own_order_and_every_place_fits_an_integer_of_a_database():
    first = sorted(KEYS, key=lambda key: shuffled_place(key, 1))
    second = sorted(KEYS, key=lambda key: shuffled_place(key, 2))

    assert first != second != KEYS
    assert all(0 <= shuffled_place(key, 1) < 2**63 for key in KEYS[:1000])
    assert len({shuffled_place(key, 1) for key in KEYS}) == len(KEYS)
