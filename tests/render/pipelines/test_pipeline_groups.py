"""Which rows share a call: full groups first, nobody starves, nobody waits for ever."""

from sdbatch.render.pipelines.pipeline_groups import PATIENCE, Groups
from tests.render.drawing import make_row


def ids(rows):
    return [row.row_index for row in rows]


def drained(groups, limit=200):
    taken = []
    for _ in range(limit):
        group = groups.take()
        taken += [ids(group)] if group else []
        if not len(groups) and groups.exhausted:
            return taken
    raise AssertionError("the groups never ended")


def test_rows_of_equal_settings_share_a_call_and_every_row_has_one():
    rows = [make_row(i, num_inference_steps=2 + i % 2) for i in range(10)]
    taken = drained(Groups(rows, lambda _: 3))
    assert sorted(row for group in taken for row in group) == list(range(10))
    assert all(len({row % 2 for row in group}) == 1 for group in taken)
    assert [len(group) for group in taken] == [3, 3, 2, 2]


def test_whatever_changes_a_call_sets_rows_apart():
    first = make_row(0)
    others = [
        make_row(1, width_px=40),
        make_row(2, guidance_scale=1.0),
        make_row(3, scheduler="DDPMScheduler"),
        make_row(4, scheduler_config="{}"),
        make_row(5, negative_prompt="blurred"),
        make_row(6, true_cfg_scale=2.0),
    ]
    taken = drained(Groups([first, *others, make_row(7, prompt="else", seed=9)], lambda _: 2))
    assert sorted(taken) == [[0, 7], [1], [2], [3], [4], [5], [6]]


def test_only_what_fills_a_group_is_pulled():
    pulled = []

    def feed():
        for i in range(100):
            pulled.append(i)
            yield make_row(i)

    assert ids(Groups(feed(), lambda _: 4).take()) == [0, 1, 2, 3]
    assert len(pulled) == 4


def test_a_short_group_waits_a_tenth_of_a_call_and_no_longer():
    now = [0.0]
    feed = iter([make_row(0), None, None, None, make_row(1)])
    groups = Groups(feed, lambda _: 4, clock=lambda: now[0])
    groups.call_seconds = 10.0
    now[0] = 5.0
    assert groups.take() == []
    now[0] = 5.9
    assert groups.take() == []
    now[0] = 6.1
    assert ids(groups.take()) == [0]


def test_the_first_rows_are_drawn_at_once_when_no_call_was_made_yet():
    groups = Groups(iter([make_row(0), None]), lambda _: 4)
    assert ids(groups.take()) == [0]


def test_a_lonely_row_is_overtaken_only_so_often():
    lonely = make_row(0, num_inference_steps=7)
    rows = [lonely, *(make_row(i) for i in range(1, 2 * PATIENCE + 5))]
    taken = drained(Groups(rows, lambda _: 2))
    assert taken.index([0]) == PATIENCE


def test_a_closed_look_ahead_lets_its_rows_go_and_asks_for_no_more():
    def feed():
        yield from (make_row(i) for i in range(5))
        yield None
        raise AssertionError("asked once more")

    groups = Groups(feed(), lambda _: 2)
    assert ids(groups.take()) == [0, 1]
    groups.close()

    assert groups.take() == []
    assert not len(groups)
    assert groups.exhausted
