"""Texts of strangers cannot steer a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from sdbatch.audit.plain_text import plain, shortened


@given(st.text())
def test_whatever_it_is_it_becomes_one_printable_line(text):
    assert plain(text).isprintable()


@given(st.text())
def test_printable_text_stays_as_it_is(text):
    once = plain(text)

    assert plain(once) == once


@given(st.text(max_size=50), st.integers(3, 60))
def test_a_text_is_never_longer_than_asked(text, chars):
    short = shortened(text, chars)

    assert len(short) <= chars
    assert short == text or short.endswith("...")
