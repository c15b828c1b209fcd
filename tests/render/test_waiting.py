"""Rows wait in a small room, oldest first, kinds apart."""

from __future__ import annotations

from sdbatch.render.waiting import PATIENCE, Waiting, size_of
from tests.render.drawing import make_row

SMALL, LARGE = ((32, 32), None, 1), ((64, 64), None, 1)


def small(index):
    return make_row(index)


def large(index):
    return make_row(index, width_px=64, height_px=64)


def test_no_more_rows_are_pulled_than_the_look_ahead_holds():
    feed = iter([small(i) for i in range(9)])
    waiting = Waiting(feed, look_ahead=4)

    waiting.pull()

    assert len(waiting) == 4
    assert len(list(feed)) == 5


def test_none_ends_a_pull_but_not_the_feed():
    waiting = Waiting([small(0), None, small(1)])

    waiting.pull()
    first = len(waiting)
    waiting.pull()

    assert (first, len(waiting), waiting.exhausted) == (1, 2, True)


def test_rows_of_the_running_size_overtake_others_in_their_order():
    waiting = Waiting([large(0), small(1), small(2)])
    waiting.pull()

    taken = [waiting.take(SMALL), waiting.take(SMALL), waiting.take(SMALL)]

    assert [row and row.row_index for row in taken] == [1, 2, None]
    assert waiting.next_kind == LARGE


def test_a_row_is_not_overtaken_for_ever():
    waiting = Waiting([large(0), *(small(i) for i in range(1, 2 * PATIENCE))])
    waiting.pull()

    overtaken = 0
    while waiting.take(SMALL) is not None:
        overtaken += 1
        waiting.pull()

    assert overtaken == PATIENCE
    assert waiting.take(LARGE).row_index == 0
    assert waiting.take(SMALL) is not None


def test_rows_of_one_size_but_unlike_settings_are_kept_apart():
    def kind_of(row, wait=True):
        return (size_of(row), (row.scheduler, "", row.num_inference_steps, row.guided))

    rows = [make_row(i, num_inference_steps=(3, 5)[i % 2]) for i in range(4)]
    waiting = Waiting(rows, kind_of=kind_of)
    waiting.pull()

    kind = kind_of(rows[1])
    taken = [waiting.take(kind), waiting.take(kind), waiting.take(kind)]

    assert [row and row.row_index for row in taken] == [1, 3, None]


def test_rows_go_by_one_whose_kind_is_not_known_yet_unless_they_are_to_wait():
    known = set()

    def kind_of(row, wait=True):
        if wait:
            known.add(row.row_index)
        return SMALL if row.row_index in known else None

    waiting = Waiting([small(i) for i in range(3)], kind_of=kind_of)
    waiting.pull()
    known.add(1)

    by_the_way = [waiting.take(SMALL, wait=False), waiting.take(SMALL, wait=False)]
    patient = [waiting.take(SMALL), waiting.take(SMALL)]

    assert [row and row.row_index for row in by_the_way] == [1, None]
    assert [row and row.row_index for row in patient] == [0, 2]


def test_the_kind_of_a_row_is_asked_for_when_it_is_pulled():
    asked = []

    def kind_of(row, wait=True):
        asked.append((row.row_index, wait))
        return SMALL

    Waiting([small(0), small(1)], kind_of=kind_of).pull()

    assert asked == [(0, False), (1, False)]
