"""Text and files of pictures for people."""

import pytest
from PIL import Image

from sdbatch.dataset.figures import printable, save_png
from sdbatch.errors import StorageError


def test_text_becomes_one_line_of_letters_that_the_font_has():
    assert printable("Crème\n\tbrûlée \u202e— x\u0007") == "Creme brulee - x"


def test_folders_are_made_on_the_way(tmp_path):
    path = tmp_path / "a" / "b.png"

    assert save_png(Image.new("RGB", (2, 3)), path) == str(path)
    with Image.open(path) as picture:
        assert picture.size == (2, 3)


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StorageError, match=r"b\.png: .*name a place"):
        save_png(Image.new("RGB", (2, 3)), tmp_path / "file" / "b.png")
