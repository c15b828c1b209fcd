"""What rows say of sizes: one spelling for equal words, and faults in one line."""

import json

import pytest

from sdbatch.manifest.micro_conditioning import micro_fault, micro_numbers, one_spelling


def test_what_is_left_out_is_the_pictures_own_size_and_no_crop():
    assert micro_numbers("", 640, 512) == (640, 512, 0, 0, 640, 512)
    said = one_spelling({"original_size": [300, 200], "crops_coords_top_left": [7, 9]})
    assert micro_numbers(said, 640, 512) == (300, 200, 7, 9, 640, 512)
    assert micro_numbers('{"target_size":[1,2]}', 64, 32) == (64, 32, 0, 0, 1, 2)


def test_equal_words_have_one_spelling():
    loose = '{ "target_size": [1, 2],\n "original_size": [3, 4] }'

    assert one_spelling(loose) == '{"original_size":[3,4],"target_size":[1,2]}'
    assert one_spelling(json.loads(loose)) == one_spelling(loose)
    assert one_spelling("") == one_spelling({}) == ""
    assert one_spelling("{") == "{"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
        ('{"originalsize": [1, 2]}', "did you mean 'original_size'?"),
        ('{"x": [1, 2]}', "takes no 'x'"),
        ('{"original_size": 512}', "two whole numbers from 1"),
        ('{"original_size": [512]}', "two whole numbers from 1"),
        ('{"target_size": [0, 512]}', "two whole numbers from 1"),
        ('{"target_size": [true, 512]}', "two whole numbers from 1"),
        ('{"crops_coords_top_left": [-1, 0]}', "two whole numbers from 0"),
        ('{"crops_coords_top_left": [0.5, 0]}', "two whole numbers from 0"),
        ('{"original_size": [99999, 512]}', "to 16384"),
    ],
)
def test_a_fault_is_said_in_one_line(text, said):
    assert said in micro_fault(text)
    assert "\n" not in micro_fault(text)


def test_a_crop_may_begin_in_the_corner():
    assert micro_fault('{"crops_coords_top_left": [0, 0]}') == ""
