"""Keys with names that people chose: any script, never a way out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import InputError
from sdbatch.storage.named_key import NamedKey
from sdbatch.storage.store import check_key, open_store
from tests.storage.stores import memory_store


@pytest.mark.parametrize("key", ["train/grüne Katze/赤い円 (2).png", "a#b%20&c=+@!~.png", "x"])
def test_a_name_of_any_script_is_stored_and_found_again(key, tmp_path):
    for store in (open_store(tmp_path), memory_store()):
        store.put(NamedKey(key), b"picture")

        assert store.get(NamedKey(key)) == b"picture"
        assert [info.key for info in store.list("")] == [key]
        store.delete(NamedKey(key))
        assert store.head(NamedKey(key)) is None


@pytest.mark.parametrize(
    "key",
    ["", "/a", "a//b", "../a", "a/../b", "a/.", ".a", "a.", "a ", "a\\b", "a\0b", "C:a", "a\nb",
     "a\u202eb", "\ud800", "x" * 201, "é" * 101],
    ids=ascii,
)  # fmt: skip
def test_a_key_that_is_no_plain_path_is_refused(key):
    with pytest.raises(InputError):
        NamedKey(key)


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_whatever_is_taken_stays_below_the_root(key):
    try:
        named = NamedKey(key)
    except InputError:
        return
    assert not named.startswith("/")
    assert not {"", ".", ".."} & set(named.split("/"))


def test_a_key_of_a_run_is_as_plain_as_before():
    with pytest.raises(InputError):
        check_key("data/é.parquet")
