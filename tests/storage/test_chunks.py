"""Pieces of large objects: any order of seeks and reads gives the bytes of the whole."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import LocalDiskError, LocalFileError
from sdbatch.storage.chunks import RangedReader, naming, part_bytes, send_parts, to_be_stored
from sdbatch.storage.digests import file_md5, md5_base64, md5_hex, md5_of

CONTENT = bytes(range(256)) * 4
steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 300)),
        st.tuples(st.just("seek"), st.integers(0, 1100)),
    ),
    max_size=12,
)


@given(steps, st.integers(1, 500), st.integers(0, 1024))
def test_a_ranged_reader_reads_like_the_bytes_themselves(todo, chunk, head):
    def fetch(first, end):
        assert 0 <= first < end <= len(CONTENT)
        assert end - first <= chunk
        return CONTENT[first:end]

    ranged = io.BufferedReader(RangedReader(len(CONTENT), CONTENT[:head], fetch, chunk), 64)
    plain = io.BytesIO(CONTENT)
    for what, number in todo:
        assert getattr(ranged, what)(number) == getattr(plain, what)(number)
        assert ranged.tell() == plain.tell()


def test_seeking_before_the_beginning_is_refused():
    reader = RangedReader(10, b"", lambda first, end: b"", 5)

    with pytest.raises(ValueError, match="before the beginning"):
        reader.seek(-11, io.SEEK_END)


@given(st.binary(max_size=700), st.integers(1, 200), st.integers(1, 4))
def test_parts_are_the_file_in_order(content, length, streams):
    sent = send_parts(
        io.BytesIO(content), len(content), length, streams, lambda number, data: (number, data)
    )

    assert [number for number, _ in sent] == list(range(len(sent)))
    assert b"".join(data for _, data in sent) == content
    assert all(data for _, data in sent)


@given(st.integers(1, 10**13), st.integers(1, 1 << 24), st.integers(1, 10_000))
def test_no_file_has_too_many_parts(size, chunk, most):
    length = part_bytes(size, chunk, most)

    assert -(-size // length) <= most
    assert length % chunk == 0


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_digests_agree_however_they_are_spelt(one, two):
    md5 = md5_of(one, two)

    assert md5 == md5_of(one + two) == file_md5(io.BytesIO(one + two))
    assert md5_hex(md5_base64(md5)) == md5_hex(bytearray.fromhex(md5)) == md5
    assert md5_hex(None) == md5_hex("") == ""


@pytest.mark.parametrize("name", ["none", "none/x"])
def test_a_file_to_be_stored_that_is_not_there_is_named_and_not_tried_again(tmp_path, name):
    place, words = tmp_path / name, "this local file was to be stored"
    with pytest.raises(LocalFileError, match=words) as caught, to_be_stored(place):
        place.read_bytes()

    assert caught.value.path == str(tmp_path / name)
    assert not caught.value.retryable


@pytest.mark.parametrize("around", [naming, to_be_stored])
def test_a_full_disk_is_that_of_the_node_and_no_failing_store(tmp_path, around):
    with pytest.raises(LocalDiskError, match="No space left") as caught, around(tmp_path / "x"):
        raise OSError(28, "No space left on device")

    assert caught.value.path == str(tmp_path / "x")
