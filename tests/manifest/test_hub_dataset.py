"""A dataset of the hub, stood in for by one in memory: nothing is fetched."""

import datasets
import pytest

from sdbatch.errors import ManifestError
from sdbatch.manifest.opening import open_any
from sdbatch.manifest.reader import iter_tables


@pytest.fixture
def hub(monkeypatch):
    asked = []

    def load(name, *, split, streaming):
        asked.append((name, split))
        if name != "people/prompts":
            raise ConnectionError("Couldn't reach the hub\n(offline)")
        rows = datasets.Dataset.from_dict({"Prompt": ["a", "b"], "steps": [5, None]})
        return rows.to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_a_dataset_of_the_hub_is_frozen_and_read_like_any_manifest(hub, tmp_path):
    manifest = open_any("hf:people/prompts:test", lambda: tmp_path).manifest

    assert hub == [("people/prompts", "test")]
    (table,) = iter_tables(manifest.ref)
    assert table.to_pylist() == [
        {"prompt": "a", "num_inference_steps": 5},
        {"prompt": "b", "num_inference_steps": None},
    ]
    (tmp_path / "again").mkdir()
    again = open_any("hf:people/prompts:test", lambda: tmp_path / "again").manifest
    assert again.ref.identity == manifest.ref.identity


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "hf:people/none",
            "cannot be read from the hub: ConnectionError: Couldn't reach the hub (",
        ),
        ("hf:a b", "is no dataset, write hf:owner/name"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(hub, tmp_path, url, words):
    with pytest.raises(ManifestError) as caught:
        open_any(url, lambda: tmp_path)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
