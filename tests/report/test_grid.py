"""Grids over real small datasets: right pictures in right places, gaps marked, labels cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from sdbatch import api
from sdbatch.dataset.figures import printable
from sdbatch.dataset.images import decode
from sdbatch.errors import InputError
from sdbatch.render.fake import read_fake
from sdbatch.report.grid_cells import find_cells, read_small
from sdbatch.report.grid_sheet import MAX_SIDE_PX, Sheet, cell_size, cut, draw_sheet
from sdbatch.storage.store import open_store
from tests.report.nasty import NASTY

SCHEDULERS = ("DDIMScheduler", "EulerDiscreteScheduler")
SCALES = (1.0, 7.5, 10.0)


@pytest.fixture
def dataset(tmp_path):
    """Two prompts x two schedulers x three scales, less one row; one place holds two."""
    rows = [
        {"prompt": prompt, "scheduler": scheduler, "guidance_scale": scale, "tag": NASTY[0]}
        for prompt, scheduler, scale in itertools.product("pq", SCHEDULERS, SCALES)
    ]
    del rows[4]  # p, Euler, 7.5
    rows.append(dict(rows[0]))
    options = {"engine": "inline", "size": "64x64", "shard_size": 4, "model": "fake"}
    api.render(rows, tmp_path / "out", **options)
    return tmp_path / "out"


def test_each_cell_holds_its_first_picture_and_counts_the_others(dataset):
    store = open_store(dataset)
    cells = find_cells(store, ["main"], ("prompt", "guidance_scale", "scheduler"))
    read_small(store, ["main"], cells, 64)

    assert list(cells.pages) == ["p", "q"]
    assert list(cells.columns) == [1.0, 7.5, 10.0]
    assert list(cells.rows) == list(SCHEDULERS)
    assert len(cells.found) == 11
    assert ("p", 7.5, "EulerDiscreteScheduler") not in cells.found
    first = cells.found["p", 1.0, "DDIMScheduler"]
    assert (first.key, first.count) == ("000000000_000", 2)
    assert all(cell.count == 1 for place, cell in cells.found.items() if cell is not first)


def test_the_pictures_are_those_of_their_keys(dataset):
    store = open_store(dataset)
    cells = find_cells(store, ["main"], ("prompt", "guidance_scale", "scheduler"))
    read_small(store, ["main"], cells, 64)
    table = api.open_dataset(dataset).to_table(["key", "row_index", "seed", "row_hash"])
    rows = {row["key"]: row for row in table.to_pylist()}

    for cell in cells.found.values():
        row = rows[cell.key]
        shown = decode(cell.small)
        painted = read_fake(shown)
        assert (painted.row_index, painted.seed) == (row["row_index"], row["seed"])


def test_a_page_for_every_value_and_gaps_are_counted(dataset, tmp_path):
    made = api.grid(
        dataset, x="guidance_scale", y="scheduler", page="prompt", out=tmp_path / "g" / "grid.png"
    )

    assert [page.file for page in made.pages] == [
        str(tmp_path / "g" / f"grid-{n}.png") for n in (1, 2)
    ]
    assert [page.missing for page in made.pages] == [1, 0]
    assert made.describe().splitlines()[0].endswith("3 x 2 cells, 1 without a picture: p")
    sizes = {Image.open(page.file).size for page in made.pages}
    assert len(sizes) == 1


def test_failed_pictures_are_told_from_those_that_nobody_planned(tmp_path):
    rows = [{"prompt": str(i), "tag": "ab"[i % 2], "part": str(i // 2)} for i in range(40)]
    options = {"engine": "inline", "size": "64x64", "allow_failed": "100%"}
    api.render(rows, tmp_path / "out", model="fake:fail=0.5", **options)
    cells = find_cells(open_store(tmp_path / "out"), ["main"], ("", "part", "tag"))

    assert len(cells.found) == 40
    assert {(cell.count, cell.failed) for cell in cells.found.values()} == {(1, 0), (0, 1)}


def test_columns_that_make_no_grid_are_refused(dataset, tmp_path):
    with pytest.raises(InputError, match="scheduler"):
        api.grid(dataset, x="schedular", out=tmp_path / "g.png")
    with pytest.raises(InputError, match=r"\.png"):
        api.grid(dataset, x="scheduler", out=tmp_path / "g.jpg")
    with pytest.raises(InputError, match="holds no run"):
        api.grid(tmp_path / "nowhere", x="scheduler", out=tmp_path / "g.png")


def test_a_column_of_too_many_values_is_refused_by_name(manifest, tmp_path):
    api.render(manifest(80), tmp_path / "out", model="fake", engine="inline", size="64x64")
    with pytest.raises(InputError, match="'prompt': has more than 64 values"):
        api.grid(tmp_path / "out", x="prompt", out=tmp_path / "g.png")


@pytest.mark.parametrize("count", [1, 5, 64])
def test_a_page_stays_within_bounds(count):
    names = [NASTY[0] * 20] * count
    page = draw_sheet(Sheet("t" * 5000, "x", "y", names, names, [[None] * count] * count))

    assert max(page.size) <= MAX_SIDE_PX + 500
    assert cell_size(count, 1) >= 64
    assert page.crop((0, 0, 400, 400)).getcolors(1) is None


@given(st.text(max_size=200), st.integers(20, 400))
def test_a_cut_text_fits_and_keeps_its_beginning(text, width):
    font = ImageFont.load_default(15)
    short = cut(text, font, width)

    assert font.getlength(short) <= width
    if short != printable(text):
        assert short.endswith("…")
        assert printable(text).startswith(short[:-1])
