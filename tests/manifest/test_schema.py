import pyarrow as pa
import pytest

from sdbatch.errors import ManifestError
from sdbatch.manifest.schema import LATER, canonical_table, read_columns


def schema(**types):
    return pa.schema(list(types.items()))


def test_columns_nobody_reads_pass_through():
    columns = read_columns("m", schema(prompt=pa.string(), style=pa.int8(), seed=pa.int32()))

    assert columns.canonical == ("prompt", "seed")
    assert columns.user == ("style",)
    assert columns.notes == ()


@pytest.mark.parametrize("name", sorted(LATER))
def test_a_column_of_a_later_version_is_known_and_does_not_pass_through(name):
    columns = read_columns("m", schema(**{"prompt": pa.string(), name: pa.string()}))

    assert (columns.later, columns.user) == ((name,), ())


def test_a_name_the_dataset_needs_is_refused():
    with pytest.raises(ManifestError, match="column 'sha256': the dataset has a column"):
        read_columns("m", schema(prompt=pa.string(), sha256=pa.string()), frozenset({"sha256"}))


def test_a_column_that_stands_twice_is_refused():
    twice = pa.schema([("prompt", pa.string()), ("a", pa.int8()), ("a", pa.int8())])

    with pytest.raises(ManifestError, match="'a': stands twice"):
        read_columns("m", twice)


@pytest.mark.parametrize("name", ["text", "caption", "Prompt", "TEXT", "promt"])
def test_a_missing_prompt_column_is_looked_for_under_other_names(name):
    with pytest.raises(ManifestError, match=f"rename '{name}' to 'prompt'"):
        read_columns("m", schema(**{name: pa.string()}))


def test_a_missing_prompt_column_without_a_likeness_lists_what_is_there():
    with pytest.raises(ManifestError, match="no column 'prompt' among a, b"):
        read_columns("m", schema(a=pa.string(), b=pa.string()))


@pytest.mark.parametrize(
    ("name", "meant"),
    [("steps", "num_inference_steps"), ("cfg_scale", "guidance_scale"), ("sampler", "scheduler")],
)
def test_a_column_under_another_tools_name_is_mentioned(name, meant):
    columns = read_columns("m", schema(**{"prompt": pa.string(), name: pa.string()}))

    assert columns.notes == (f"column '{name}' is passed through, not read; did you mean {meant}?",)


def test_another_tools_name_beside_the_canonical_one_is_not_mentioned():
    columns = read_columns(
        "m", schema(prompt=pa.string(), steps=pa.int32(), num_inference_steps=pa.int32())
    )

    assert columns.notes == ()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("width", pa.string()),
        ("seed", pa.bool_()),
        ("prompt", pa.binary()),
        ("prompt", pa.list_(pa.string())),
        ("guidance_scale", pa.string()),
        ("id", pa.float64()),
    ],
)
def test_a_type_whose_values_cannot_be_meant_is_refused(name, kind):
    types = {"prompt": pa.string(), name: kind}

    with pytest.raises(ManifestError, match=f"column '{name}': holds .*, must hold"):
        read_columns("m", schema(**types))


def test_values_come_out_in_canonical_types():
    table = pa.table(
        {
            "width": pa.array([512.0, None]),
            "prompt": pa.array(["a", "b"]).dictionary_encode(),
            "id": pa.array([7, 8]),
            "seed": pa.nulls(2),
            "mood": ["x", "y"],
        }
    )

    got = canonical_table(table)

    assert got.to_pylist() == [
        {"id": "7", "prompt": "a", "seed": None, "width": 512},
        {"id": "8", "prompt": "b", "seed": None, "width": None},
    ]
    assert got.schema.field("width").type == pa.int32()
