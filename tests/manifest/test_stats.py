import pyarrow as pa
import pytest

from sdbatch.errors import ManifestError
from sdbatch.manifest.near_duplicates import NearDuplicates, words_of
from sdbatch.manifest.reader import open_manifest
from sdbatch.manifest.stats import bars, manifest_stats

LONG = "a very large red fox stands in the deep snow of a wide northern forest at dawn"


@pytest.fixture
def stats(write):
    return lambda columns: manifest_stats(open_manifest(write(columns)))


def test_settings_are_counted_as_rows_state_them(stats):
    found = stats(
        {
            "prompt": list("abcd"),
            "num_inference_steps": [20, 20, 30, None],
            "guidance_scale": [7.5, 7.5, 7.5, 1.0],
            "width": [512, 512, None, 64],
            "height": [512, 768, None, 64],
        }
    )

    assert found.settings["num_inference_steps"] == {"20": 2, "30": 1, "unstated": 1}
    assert found.settings["guidance_scale"] == {"7.5": 3, "1": 1}
    assert found.settings["size"] == {"512x512": 1, "512x768": 1, "64x64": 1, "unstated": 1}
    assert found.rows == 4


def test_prompts_are_counted_by_their_words(stats):
    found = stats({"prompt": ["", None, "one", "one, two", "1 2 3", LONG, "..."]})

    assert found.words == {"0": 3, "1-2": 2, "3-5": 1, "11-20": 1}
    assert found.empty_prompts == 3


def test_equal_and_nearly_equal_prompts_are_told_apart(stats):
    found = stats({"prompt": [LONG, "a blue square", LONG, LONG.upper() + "!", "a green star"]})

    assert (found.repeated_prompts, found.near_duplicates) == (1, 1)
    assert (0, 3) in found.near_pairs


def test_one_word_in_many_makes_a_near_duplicate_another_subject_does_not():
    texts = [f"{LONG} number {i} " + " ".join(f"w{i}x{n}" for n in range(40)) for i in range(50)]
    twin = texts[0].replace("dawn", "dusk")
    with NearDuplicates(51) as near:
        near.add(pa.chunked_array([texts]), 0)
        near.add(pa.chunked_array([[twin]]), 50)
        alike, pairs = near.found()

    assert alike.nonzero()[0].tolist() == [50]
    assert pairs == [(0, 50)]


def test_words_are_those_of_any_script():
    counts, words = words_of(pa.chunked_array([["  Ein grüner Fuchs! ", "", None, "狐 fox"]]))

    assert counts.tolist() == [3, 0, 0, 2]
    assert words.to_pylist() == ["ein", "grüner", "fuchs", "狐", "fox"]


def test_texts_that_are_no_utf8_are_named_not_counted(stats, broken):
    with pytest.raises(ManifestError, match="manifest check"):
        stats({"prompt": broken})


def test_a_histogram_says_what_it_leaves_out():
    lines = bars({str(n): 10 for n in range(20)})

    assert len(lines) == 13
    assert lines[-1].split()[:3] == ["8", "others", "80"]
