"""The strip: pictures in their places, any prompt, any shape."""

import numpy as np
import pytest

from sdbatch.dataset.strip import BANDS, CELL_PX, Column, strip

RED, BLUE, GREEN = (200, 20, 30), (20, 40, 200), (30, 160, 60)


def plain(colour, width=CELL_PX, height=CELL_PX):
    return np.tile(np.array(colour, np.uint8), (height, width, 1))


def columns(count=3, foreseen=True, **size):
    known = {"predicted": plain(BLUE, **size), "decided": (0.9, 0.4, 0.1)} if foreseen else {}
    return [
        Column(f"call {i}", "timestep 9", 0.5 if foreseen else None, plain(RED, **size), **known)
        for i in range(count)
    ]


def area(sheet, colour):
    """How many pixels of a sheet have exactly this colour."""
    return int((np.asarray(sheet) == np.array(colour)).all(axis=2).sum())


def test_every_picture_is_there_whole_and_the_finished_one_is_large():
    sheet = strip(columns(3), plain(GREEN), "a prompt", "facts")

    assert area(sheet, RED) == 3 * CELL_PX**2
    assert area(sheet, BLUE) == 3 * CELL_PX**2
    assert area(sheet, GREEN) > 4 * CELL_PX**2


def test_each_band_has_its_line():
    sheet = strip(columns(3), plain(GREEN), "a prompt", "facts", ("over 8 px", "", ""))

    legend = 19 * 3
    assert all(area(sheet, colour) > legend + 20 for _, colour in BANDS)


def test_without_predictions_there_is_one_row_and_no_chart():
    sheet = strip(columns(3, foreseen=False), plain(GREEN), "a prompt", "facts")

    assert area(sheet, RED) == 3 * CELL_PX**2
    assert area(sheet, BLUE) == 0
    assert all(area(sheet, colour) == 0 for _, colour in BANDS)
    assert area(sheet, GREEN) == 4 * CELL_PX**2


@pytest.mark.parametrize(("width", "height"), [(168, 84), (84, 168), (168, 8), (1, 1)])
def test_pictures_keep_their_shape(width, height):
    longer = max(width, height)
    cell = CELL_PX**2 * (width / longer) * (height / longer)

    sheet = strip(columns(2, width=width, height=height), plain(GREEN, width, height), "", "")

    assert area(sheet, RED) == pytest.approx(2 * cell, rel=0.01)


@pytest.mark.parametrize("title", ["", "word " * 300, "x" * 5000, "猫と犬 🙂\n\t\u202e", "é"])
def test_any_prompt_fits_the_sheet(title):
    short = strip(columns(1), plain(GREEN), "short", "facts")

    assert strip(columns(1), plain(GREEN), title, title).size == short.size


def test_more_calls_make_it_wider_and_not_higher():
    few, many = (strip(columns(n), plain(GREEN), "a", "b") for n in (1, 8))

    assert many.width > few.width
    assert many.height == few.height
