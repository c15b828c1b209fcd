"""A context closes itself, whatever happened inside."""

from __future__ import annotations

import pytest

from sdbatch.closing import Closing


class Door(Closing):
    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


def test_a_context_closes_itself_and_hides_no_error():
    door = Door()
    with pytest.raises(ValueError, match="inside"), door:
        raise ValueError("inside")

    assert door.closed == 1
    with door as entered:
        assert entered is door


def test_what_says_not_how_it_closes_cannot_be_made():
    with pytest.raises(TypeError, match="close"):
        Closing()
