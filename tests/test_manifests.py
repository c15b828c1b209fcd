"""The manifests that ship with the repository."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

FOLDER = Path(__file__).parents[1] / "manifests"


def read(name):
    return pq.read_table(FOLDER / f"{name}.parquet")


def test_the_shapes_manifest_asks_for_256_different_pictures():
    table = read("shapes")

    assert table.num_rows == len(set(table["prompt"].to_pylist())) == 256
    assert len(set(table["seed"].to_pylist())) == 256


def test_wanted_attributes_of_shapes_are_complete():
    for row in read("shapes").to_pylist():
        second = [row[f"{name}_2"] for name in ("shape", "color", "pattern", "size")]
        single = row["layout"] == "single"
        assert [bool(word) for word in second] == [not single] * 4
        assert bool(row["position"]) == single
        assert all(row[f"{name}_1"] for name in ("shape", "color", "pattern", "size"))
        assert row["background"] != row["color_1"]


def test_partiprompts_are_all_there_with_their_quotation_marks():
    table = read("partiprompts")

    assert table.column_names == ["id", "prompt", "category", "challenge", "note"]
    assert table.num_rows == len(set(table["id"].to_pylist())) == 1632
    assert Counter(table["category"].to_pylist())["Abstract"] > 0
    assert 'called "The Rumbury Wanderers"' in " ".join(table["prompt"].to_pylist())


def test_partiprompts_credit_their_authors():
    notes = read("partiprompts").schema.metadata

    assert notes[b"licence"] == b"Apache-2.0"
    assert b"Google Research" in notes[b"credit"]
    assert b"github.com/google-research/parti" in notes[b"source"]
