"""Prompts are counted as the model's own tokenizer does, without torch."""

import json
import shutil
from dataclasses import replace

import pytest

from sdbatch.render.prompt_length import prompt_lengths
from sdbatch.render.weights.model_facts import find_model

PROMPTS = ["", "a small red circle", "red " * 40, "It's a Red, BLUE & green   star! 123"]


def test_tokens_are_those_of_the_models_tokenizer(shapes):
    transformers = pytest.importorskip("transformers")
    real = transformers.CLIPTokenizer.from_pretrained(f"{shapes.path}/tokenizer")

    lengths = prompt_lengths(shapes, PROMPTS)

    assert lengths.exact
    assert [count + 2 for count in lengths.tokens] == [
        len(ids) for ids in real(PROMPTS, truncation=False).input_ids
    ]
    assert (lengths.room, lengths.num_cut) == (30, 1)


def test_a_tokenizer_of_vocabulary_and_merges_counts_the_same(shapes, tmp_path):
    folder = shutil.copytree(shapes.path, tmp_path / "old")
    file = folder / "tokenizer" / "tokenizer.json"
    model = json.loads(file.read_text())["model"]
    file.unlink()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))

    assert prompt_lengths(replace(shapes, path=str(folder)), PROMPTS) == prompt_lengths(
        shapes, PROMPTS
    )


def test_without_a_tokenizer_words_are_counted(shapes, tmp_path):
    lengths = prompt_lengths(replace(shapes, path=str(tmp_path)), ["a, b", "word " * 80])

    assert not lengths.exact
    assert lengths.tokens == (4, 108)
    assert (lengths.room, lengths.num_cut) == (75, 1)


def test_a_model_that_reads_no_prompts_cuts_none():
    assert prompt_lengths(find_model("fake"), PROMPTS) is None


@pytest.mark.parametrize(
    ("pipeline_class", "room"),
    [
        ("PixArtSigmaPipeline", 299),
        ("PixArtAlphaPipeline", 119),
        ("SanaPipeline", 298),
        ("FluxPipeline", 255),  # a folder that does not say that it is told guidance
        ("StableDiffusion3Pipeline", 75),  # a folder without its T5
    ],
)
def test_every_family_reads_as_many_tokens_as_its_text_encoder(
    shapes, tmp_path, pipeline_class, room
):
    model = replace(shapes, path=str(tmp_path), pipeline_class=pipeline_class)

    assert prompt_lengths(model, ["word"]).room == room


def test_of_a_pipeline_without_a_family_nobody_knows_how_much_it_reads(shapes):
    assert prompt_lengths(replace(shapes, pipeline_class="AuraFlowPipeline"), PROMPTS) is None
