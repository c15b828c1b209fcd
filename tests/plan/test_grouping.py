import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sdbatch.plan.grouping import model_calls, visiting_order
from sdbatch.records import RenderRow


def row(index, size=64, steps=10, guidance=5.0, image=0):
    return RenderRow(
        index, image, str(index), "a", "", 0, size, size, steps, guidance, "DDIMScheduler"
    )


def test_guidance_takes_two_lanes():
    assert [model_calls(row(0, steps=7, guidance=g)) for g in (0.0, 1.0, 1.5)] == [7, 7, 14]


def test_large_pictures_come_first_then_long_ones_then_manifest_order():
    rows = [row(0), row(1, steps=30), row(2, size=128), row(3), row(3, image=1)]

    order = [picture.image_id for picture in visiting_order(rows)]

    assert order == [(2, 0), (1, 0), (0, 0), (3, 0), (3, 1)]


def test_rows_without_a_table_come_last_in_their_size_setting_by_setting():
    def grouped(index, config, steps=10, size=64):
        return replace(row(index, size, steps), scheduler_config=config)

    clipped, thresholded = '{"clip_sample":true}', '{"thresholding":true}'
    rows = [
        grouped(0, thresholded, 90),
        grouped(1, clipped, 90),
        grouped(2, thresholded, 90),
        grouped(3, clipped, 30),
        grouped(4, clipped, 90),
        row(5),
        grouped(6, '{"clip_sample":false}', 20),
        row(7, size=32),
    ]

    order = [picture.row_index for picture in visiting_order(rows)]

    assert order == [6, 5, 3, 1, 4, 0, 2, 7]


def test_pictures_of_one_size_stay_together_even_when_areas_are_equal():
    flat = RenderRow(0, 0, "", "a", "", 0, 128, 32, 9, 1.0, "DDIMScheduler")
    tall = RenderRow(1, 0, "", "a", "", 0, 32, 128, 99, 1.0, "DDIMScheduler")
    long_flat = RenderRow(2, 0, "", "a", "", 0, 128, 32, 999, 1.0, "DDIMScheduler")

    assert visiting_order([flat, tall, long_flat]) == [tall, long_flat, flat]


@given(steps=st.lists(st.integers(1, 5), max_size=20), seed=st.integers(0, 99))
def test_the_order_does_not_depend_on_how_rows_arrive(steps, seed):
    rows = [row(index, steps=count) for index, count in enumerate(steps)]
    shuffled = random.Random(seed).sample(rows, len(rows))

    assert visiting_order(shuffled) == visiting_order(rows)


def test_weighted_prompts_that_take_more_chunks_come_first_and_plain_ones_stay_in_order():
    texts = ["a", "a BREAK b", "x " * 160, "a BREAK b"]
    rows = [replace(row(i), prompt=text, prompt_syntax="a1111") for i, text in enumerate(texts)]
    plain = [replace(each, prompt_syntax="plain") for each in rows]

    assert [each.row_index for each in visiting_order(rows)] == [2, 1, 3, 0]
    assert [each.row_index for each in visiting_order(plain)] == [0, 1, 2, 3]
