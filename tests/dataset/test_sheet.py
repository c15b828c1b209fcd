"""The contact sheet shows any picture with any prompt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont

from sdbatch.dataset.sheet import (
    CELL_PX,
    _wrap,
    contact_sheet,
)
from sdbatch.errors import InputError

FONT = ImageFont.load_default(15)
LONG = "A high-contrast photo of a panda riding a horse. The panda is wearing a wizard hat. " * 4


def flat(height, width, colour):
    return np.full((height, width, 3), colour, np.uint8)


def cells(sheet, columns):
    """Colour in the middle of each cell of the first row."""
    step = (sheet.width - 2 * 28 + 20) // columns
    return [
        sheet.getpixel((28 + k * step + CELL_PX // 2, 28 + CELL_PX // 2)) for k in range(columns)
    ]


def test_pictures_stand_in_reading_order_in_cells_of_one_size():
    items = [(flat(64, 64, [10 * k, 0, 99]), f"prompt {k}") for k in range(16)]

    sheet = contact_sheet(items)

    assert cells(sheet, 4) == [(10 * k, 0, 99) for k in range(4)]
    assert sheet.width == 2 * 28 + 4 * CELL_PX + 3 * 20


@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 64), (700, 300), (33, 1024), (1, 500)])
def test_every_size_is_fitted_whole_into_its_cell(height, width):
    sheet = contact_sheet([(flat(height, width, [200, 30, 30]), "")])

    assert sheet.size == (2 * 28 + CELL_PX, 2 * 28 + CELL_PX)
    red = (np.asarray(sheet) == [200, 30, 30]).all(axis=-1)
    seen_height, seen_width = red.any(axis=1).sum(), red.any(axis=0).sum()
    assert max(seen_height, seen_width) == CELL_PX
    assert min(seen_height, seen_width) >= CELL_PX * min(height, width) // max(height, width)


def test_fewer_pictures_than_columns_make_a_narrower_sheet():
    assert contact_sheet([(flat(8, 8, 0), "")] * 2).width == 2 * 28 + 2 * CELL_PX + 20


def test_labels_are_drawn_below_the_picture_in_ink():
    bare = contact_sheet([(flat(8, 8, 255), "")])
    labelled = contact_sheet([(flat(8, 8, 255), "a red circle")])

    below = np.asarray(labelled)[28 + CELL_PX :]
    assert labelled.height > bare.height
    assert below.min() < 80


def test_a_long_prompt_takes_three_lines_and_ends_in_an_ellipsis():
    lines = _wrap(LONG, FONT)

    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert LONG.startswith(" ".join(lines).removesuffix("…"))


def test_a_word_wider_than_a_cell_is_broken():
    lines = _wrap("x" * 50, FONT)

    assert "".join(lines) == "x" * 50
    assert len(lines) == 2


def test_accents_that_the_font_lacks_become_plain_letters():
    assert _wrap("Café \u2013 naïve\u200b", FONT) == ["Cafe - naive"]


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=120))
def test_any_text_wraps_into_lines_that_fit(text):
    lines = _wrap(text, FONT)

    assert len(lines) <= 3
    assert all(FONT.getlength(line) <= CELL_PX for line in lines)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "\n",
        "🦊👩‍👩‍👧 fox",
        "مرحبا بالعالم",
        "日本語のプロンプト" * 20,
        "\x00\ud800\uffff",
        "e" + "\u0301" * 90,
    ],
    ids=ascii,
)
def test_any_prompt_can_be_drawn(prompt):
    assert contact_sheet([(flat(8, 8, 0), prompt)]).width == 2 * 28 + CELL_PX


def test_a_sheet_of_nothing_is_refused():
    with pytest.raises(InputError, match="0 pictures"):
        contact_sheet([])
