"""The fast way to a row's hash gives what the worker's way gives, for any row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.plan.row_hashes import RowHashes, hex_words, prompt_names
from sdbatch.plan.rows import Resolving, resolve_rows
from sdbatch.records import RowDefaults

DEFAULTS = RowDefaults("", 512, 512, 20, 7.5, "DDIMScheduler", "", 1)
prompts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
rows = st.fixed_dictionaries(
    {"prompt": prompts},
    optional={
        "id": st.one_of(st.none(), st.text("ab1", max_size=3)),
        "negative_prompt": st.sampled_from([None, "", '","prompt":"\0"', '"seed":1', "blur é"]),
        "seed": st.one_of(st.none(), st.integers(0, 2**62)),
        "width": st.sampled_from([None, 64, 512]),
        "num_inference_steps": st.sampled_from([None, 4, 30]),
        "guidance_scale": st.sampled_from([None, 1.0, 7.1]),
        "true_cfg_scale": st.sampled_from([None, 1.0]),
        "scheduler": st.sampled_from([None, "Euler a", "dpmpp_2m_karras", "DDIM"]),
        "scheduler_config": st.sampled_from([None, "", '{"eta": 0.5}']),
        "num_images_per_prompt": st.sampled_from([None, 1, 3]),
        "prompt_syntax": st.sampled_from([None, "plain", "a1111"]),
    },
)


def resolving(**changes):
    how = {"manifest": "m", "defaults": DEFAULTS, "seed": 3, "hash_rows": True, "occurrences": {},
           "model_revision": "ab" * 32}  # fmt: skip
    return Resolving(**{**how, **changes})


@settings(max_examples=200, deadline=None)
@given(
    st.lists(rows, min_size=1, max_size=6), st.dictionaries(st.integers(0, 6), st.integers(1, 3))
)
def test_hashes_are_those_of_the_resolved_rows(manifest, occurrences):
    names = dict.fromkeys(name for row in manifest for name in row)
    table = pa.table({name: pa.array([row.get(name) for row in manifest]) for name in names})
    places = np.arange(len(manifest)) + 1
    how = resolving(occurrences=occurrences)

    resolved = resolve_rows(table, places, how)
    found = RowHashes(how).pictures(table, places)

    assert found.rows.tolist() == [row.row_index for row in resolved]
    assert found.images.tolist() == [row.image_index for row in resolved]
    hashes = pa.array([row.row_hash for row in resolved], pa.string())
    assert np.array_equal(found.requests, hex_words(hashes))
    if "id" not in table.column_names:
        named = prompt_names([row.prompt for row in resolved], [row.seed for row in resolved])
        assert np.array_equal(found.names, named)


def test_another_revision_of_the_model_is_another_request_under_the_same_name():
    table = pa.table({"prompt": ["a", "b"]})
    one, two = (
        RowHashes(resolving(model_revision=revision)).pictures(table, np.arange(2))
        for revision in ("ab12", "cd34")
    )

    assert not np.any(np.all(one.requests == two.requests, axis=1))
    assert np.array_equal(one.names, two.names)


def test_an_unchanged_prompt_without_id_keeps_its_hash_wherever_it_stands():
    short, long = pa.table({"prompt": ["a", "b"]}), pa.table({"prompt": ["x", "b", "y", "a"]})
    one = RowHashes(resolving()).pictures(short, np.arange(2)).requests
    two = RowHashes(resolving()).pictures(long, np.arange(4)).requests

    assert np.array_equal(one[0], two[3])
    assert np.array_equal(one[1], two[1])


@pytest.mark.parametrize("text", ["zz" * 16, "ab"])
def test_what_is_no_hash_is_refused(text):
    with pytest.raises(ValueError, match=r"hexadecimal|multiple"):
        hex_words(pa.array([text]))
