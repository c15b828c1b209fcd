"""Files of the corpus with a few bytes changed, and a bound on how long reading one may take."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"
NASTY = (b"\0", b"\xff", b"\n", b'"', b"{", b"]", b",", b"\xed\xa0\x80", b"1e999", b"-", b"\\u")
LONGEST_S = 30


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with one to six changes: cut, overwritten, moved, doubled, grown."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        end = min(len(data), at + draw(st.integers(1, 24)))
        way = draw(st.sampled_from(["flip", "write", "nasty", "cut", "end", "twice", "swap"]))
        if way == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif way == "write":
            data[at:end] = draw(st.binary(min_size=1, max_size=24))
        elif way == "nasty":
            data[at:at] = draw(st.sampled_from(NASTY)) * draw(st.sampled_from([1, 2, 40]))
        elif way == "cut":
            del data[at:end]
        elif way == "end":
            del data[at:]
        elif way == "twice":
            data[at:at] = data[at:end]
        else:
            data[at:end] = data[at:end][::-1]
    return bytes(data)


@contextmanager
def in_time() -> Iterator[None]:
    """Fail where the body takes longer than anything so small may take."""

    def late(number: int, frame: object) -> None:
        raise AssertionError(f"still busy after {LONGEST_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
