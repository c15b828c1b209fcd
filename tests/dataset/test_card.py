"""The card says what is true, shows text as text, and loads."""

import re
from dataclasses import replace

import pytest
import yaml

from sdbatch.dataset.card import CardFacts, front_matter, markdown_text, size_category, write_card
from tests.dataset.samples import place, write

FACTS = CardFacts(
    title="night run",
    model="shapes",
    model_revision="ab12",
    pipeline_class="StableDiffusionPipeline",
    dtype="float32",
    manifest="manifests/shapes.parquet",
    plan_id="plan1234",
    sdbatch_version="0.1.0",
    created="2026-11-22",
    images=4,
    success=4,
    failed=0,
    filtered=0,
    size_bytes=12_345_678,
    settings={"defaults.negative_prompt": "", "seed": 0},
)
FAILED = replace(
    FACTS,
    success=3,
    failed=1,
    error_counts={"NonFiniteError": 1},
    errors_files=("errors/*.parquet",),
)
NASTY = (
    "a | b <script>alert('x')</script> *bold* _x_ [l](http://e) `c`\n# head\n---\n"
    "\u05de\u05d9\u05df 🦊"
)


def yaml_of(card):
    return yaml.safe_load(card.split("---\n")[1])


def body_of(card):
    return card.split("---\n", 2)[2]


def test_the_front_matter_is_yaml_and_says_what_the_hub_asks():
    front = yaml_of(write_card(FACTS))

    assert front == front_matter(FACTS)
    assert front["task_categories"] == ["text-to-image"]
    assert (front["license"], front["size_categories"]) == ("other", ["n<1K"])


def test_errors_are_a_configuration_only_when_there_are_any():
    names = [
        [config["config_name"] for config in front_matter(facts)["configs"]]
        for facts in (FACTS, FAILED)
    ]

    assert names == [["default", "metadata"], ["default", "metadata", "errors"]]


def test_counts_stand_in_the_front_matter_and_in_the_text():
    card = write_card(FAILED)

    splits = [info["splits"][0]["num_examples"] for info in yaml_of(card)["dataset_info"]]
    assert splits == [3, 3, 1]
    assert "| planned pictures | 4 |" in card
    assert "| in `errors/` | 1 |" in card
    assert "| NonFiniteError | 1 |" in card
    assert "| size of `data/` | 12.3 MB |" in card


def test_files_may_be_named_one_by_one():
    front = front_matter(replace(FACTS, data_files=("data/a.parquet", "data/b.parquet")))

    assert front["configs"][0]["data_files"][0]["path"] == ["data/a.parquet", "data/b.parquet"]


@pytest.mark.parametrize("field", ["title", "model", "manifest", "model_revision"])
def test_text_of_people_stays_text(field):
    card = write_card(replace(FACTS, **{field: NASTY}))

    assert yaml_of(card) == front_matter(FACTS)
    assert "<script" not in card
    assert "\\*bold\\*" in card
    assert "\n# head" not in card
    assert "a \\| b" in card


def test_a_setting_with_bars_and_line_ends_keeps_its_table():
    card = write_card(replace(FACTS, settings={"defaults.negative_prompt": NASTY, "x": None}))

    rows = [line for line in card.splitlines() if line.startswith("| defaults")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 3
    assert "| x | null |" in card


def test_escaped_text_is_one_line():
    assert markdown_text(" a\n b\t<c> ") == "a b &lt;c&gt;"


def test_an_unknown_licence_comes_with_a_request_to_set_it():
    assert "set `license` in the first lines" in write_card(FACTS)
    assert "set `license`" not in write_card(replace(FACTS, license="cc0-1.0"))
    assert yaml_of(write_card(replace(FACTS, license="cc0-1.0")))["license"] == "cc0-1.0"


def test_without_a_preview_no_picture_is_shown():
    assert "](preview.jpg)" in write_card(FACTS)
    assert "![" not in body_of(write_card(replace(FACTS, preview="")))


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (10**6, "1M<n<10M"),
        (10**10, "100M<n<1B"),
    ],
)
def test_size_categories_are_those_of_the_hub(rows, name):
    assert size_category(rows) == name


@pytest.fixture
def offline(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    return datasets


def dataset_with_card(root, facts, images, failed):
    place(root, write(root / "tmp", images, failed), 0, 1)
    (root / "README.md").write_text(write_card(facts), encoding="utf-8")


@pytest.mark.readers
def test_datasets_loads_every_configuration_of_the_card(offline, tmp_path, caplog):
    root = tmp_path / "out"
    dataset_with_card(root, FAILED, [(0, 0), (1, 0), (2, 0)], [(3, 0)])

    load = offline.load_dataset
    assert offline.get_dataset_config_names(str(root)) == ["default", "metadata", "errors"]
    assert load(str(root), split="train")[2]["image"].size == (8, 4)
    assert "image" not in load(str(root), "metadata", split="train").column_names
    assert load(str(root), "errors", split="train")["error_type"] == ["NonFiniteError"]
    assert "Ignoring part" not in caplog.text


@pytest.mark.readers
def test_where_all_failed_the_reasons_can_still_be_loaded(offline, tmp_path):
    facts = replace(FAILED, images=1, success=0)
    dataset_with_card(tmp_path / "out", facts, [], [(3, 0)])

    errors = offline.load_dataset(str(tmp_path / "out"), "errors", split="train")
    assert errors["key"] == ["000000003_000"]
    assert "pictures[0]" not in write_card(facts)


@pytest.mark.readers
def test_a_card_whose_counts_are_wrong_is_noticed_by_datasets(offline, tmp_path):
    dataset_with_card(tmp_path / "out", FACTS, [(0, 0)], [])

    with pytest.raises(offline.exceptions.NonMatchingSplitsSizesError):
        offline.load_dataset(str(tmp_path / "out"), split="train")


@pytest.mark.readers
def test_every_snippet_of_the_card_runs_as_it_stands(offline, tmp_path, monkeypatch, capsys):
    root = tmp_path / "out"
    dataset_with_card(root, FACTS, [(0, 0), (1, 0), (2, 0), (3, 0)], [])
    monkeypatch.chdir(root)

    snippets = re.findall(r"```python\n(.*?)```", write_card(FACTS), re.DOTALL)
    for snippet in snippets:
        exec(snippet, {})

    assert len(snippets) == 4
    said = capsys.readouterr().out
    assert "(8, 4)" in said
    assert "prompt 3" in said
