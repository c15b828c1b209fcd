"""Rows streamed into a loaded model: what is taken, what is refused, which seeds come out."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from sdbatch.errors import ManifestError, ManifestRowsError
from sdbatch.manifest.faults import Limits
from sdbatch.plan.rows import Resolving, resolve_rows
from sdbatch.records import ModelFacts, RowDefaults
from sdbatch.render.model import Model

DEFAULTS = RowDefaults("", 64, 64, 20, 5.0, "DDIMScheduler", "", 1)


class Echo:
    """A renderer that gives back what it was asked for."""

    def render(self, rows):
        return iter(rows)


@pytest.fixture
def model():
    facts = ModelFacts(
        *("shapes", "/models/shapes", "r1", "StableDiffusionPipeline"),
        *(DEFAULTS, {}, 8, 1000, 10, frozenset()),
    )
    return Model(facts, Echo(), Limits("shapes", 8, 1000, frozenset({"DDIMScheduler"})))


def in_a_run(columns, occurrences):
    how = Resolving("rows", DEFAULTS, 0, True, occurrences, "r1")
    table = pa.table(columns)
    return resolve_rows(table, np.arange(table.num_rows), how)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("a fox", r"rows: one text is no list of prompts, give \['a fox'\]"),
        (b"a fox", "one text is no list"),
        ({"prompt": "a fox"}, "a dict is one row, give a list of them"),
        ({"train": pa.table({"prompt": ["a"]})}, "choose a split"),
        (7, "int is no table"),
    ],
)
def test_what_is_no_stream_of_rows_is_refused_at_once(model, rows, reason):
    with pytest.raises(ManifestError, match=reason):
        model.stream(rows)


@pytest.mark.parametrize("kind", ["arrow", "pandas", "hugging face"])
def test_tables_are_streams_of_their_rows(model, kind):
    columns = {"prompt": ["a", "b"], "seed": [1, 2], "mood": ["x", "y"]}
    table = pa.table(columns)
    if kind == "pandas":
        table = pytest.importorskip("pandas").DataFrame(columns)
    if kind == "hugging face":
        table = pytest.importorskip("datasets").Dataset.from_dict(columns)

    rows = list(model.stream(table))

    assert rows == in_a_run(columns, {})


def test_equal_rows_get_the_seeds_of_a_run(model):
    rows = list(model.stream(["a", {"prompt": "b", "seed": None}, {"prompt": "a"}, "a"]))

    assert rows == in_a_run({"prompt": ["a", "b", "a", "a"]}, {2: 1, 3: 2})


def test_rows_with_ids_get_the_seeds_of_their_ids(model):
    rows = list(model.stream([{"id": "x", "prompt": "a"}, {"id": "y", "prompt": "a"}]))

    assert rows == in_a_run({"id": ["x", "y"], "prompt": ["a", "a"]}, {})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (5, "rows, row 1: int is no row"),
        (None, "rows, row 1: NoneType is no row"),
        ({"description": "a"}, "rows, row 1: no column 'prompt'; rename 'description'"),
        ({}, "rows, row 1: no column 'prompt'"),
        ({"prompt": 5}, "rows, row 1, column 'prompt': holds int64, must hold texts"),
        ({"prompt": "a", "width": "64"}, "rows, row 1, column 'width': holds string"),
        ({"prompt": "a \udcff"}, "rows, row 1, column 'prompt'"),
        ({"prompt": "a", "image": object()}, r"rows, row 1, column 'image': .*: this version"),
    ],
)
def test_a_row_that_is_none_is_named_by_its_position(model, row, reason):
    with pytest.raises(ManifestError, match=reason):
        list(model.stream(["a", row]))


def test_a_row_that_cannot_be_drawn_is_named_by_its_position(model):
    with pytest.raises(ManifestRowsError, match="rows, row 1, column 'prompt': is null"):
        list(model.stream(["a", {"prompt": None}]))


def test_rows_of_a_table_are_named_by_their_position(model):
    table = pa.table({"prompt": ["a", "b"], "strength": [None, 0.5]})

    with pytest.raises(ManifestError, match=r"rows, row 1, column 'strength': 0.5: this version"):
        list(model.stream(table))


def test_columns_that_are_not_read_may_hold_anything(model):
    row = {"prompt": "a", "picture": object(), "mixed": [1, "x"], "image": None, 7: 8}

    assert list(model.stream([row])) == in_a_run({"prompt": ["a"]}, {})


def test_an_endless_stream_is_drawn_as_it_comes(model):
    rows = model.stream({"prompt": f"p{n}"} for n in itertools.count())

    assert [row.prompt for row in itertools.islice(rows, 3)] == ["p0", "p1", "p2"]


ALIASED = {"Caption": "a fox", "Steps": 7, "cfg-scale": 2.0, "size": "64x128", "random_seed": 5}
NAMED = {"prompt": "a fox", "num_inference_steps": 7, "guidance_scale": 2.0, "width": 64,
         "height": 128, "seed": 5}  # fmt: skip


def test_rows_may_use_the_names_that_manifests_may(model):
    wanted = list(model.stream([NAMED]))

    assert list(model.stream([ALIASED])) == wanted
    assert list(model.stream(pa.Table.from_pylist([ALIASED]))) == wanted
    assert (wanted[0].width_px, wanted[0].height_px, wanted[0].seed) == (64, 128, 5)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a", "caption": "b"}, "row 0, column 'caption': means 'prompt', and so does"),
        ({"prompt": "a", "size": "10x"}, "row 0, column 'size': '10x': is no size, write it like"),
        ({"prompt": "a", "Clip skip": 2}, "row 0, column 'Clip skip': 1: this version does not"),
        ({"prompt": "a", "init_image": object()}, "row 0, column 'init_image': <object"),
    ],
)
def test_other_names_are_held_to_the_same_rules(model, row, words):
    with pytest.raises(ManifestError, match=words):
        list(model.stream([row]))


def test_clip_skip_of_a1111_that_skips_nothing_is_drawn(model):
    assert len(list(model.stream([{"prompt": "a", "Clip skip": 1}]))) == 1
