"""The tokenizers that ship give CLIP's ids."""

import json

import pytest
import transformers

from sdbatch.render.weights.single_file_configs import clip_files


def test_the_vocabulary_has_clips_ids():
    vocab = json.loads(clip_files()["vocab.json"])

    assert len(vocab) == 49_408
    assert (vocab["!"], vocab["!</w>"], vocab["a</w>"]) == (0, 256, 320)
    assert (vocab["<|startoftext|>"], vocab["<|endoftext|>"]) == (49_406, 49_407)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    def made(pad):
        folder = tmp_path_factory.mktemp("tokenizer")
        for name, text in clip_files().items():
            (folder / name).write_text(text, encoding="utf-8")
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": pad}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    return made


def test_a_known_prompt_has_the_ids_it_is_known_for(tokenizer):
    ids = tokenizer("<|endoftext|>")("a photo of a cat", padding="max_length").input_ids

    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407] + [49407] * 70


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        (
            "Émile's 2 CAFÉS!! (50mm)",
            [3459, 6243, 568, 273, 3471, 20507, 748, 263, 276, 271, 2848, 264],
        ),
        ("unbelievably photorealistic", [33781, 1153, 16157]),
        ("日本語 🙂", [39121, 44353, 34002, 508, 14860]),
        ("it's  \n 12 a.b,c", [585, 568, 272, 273, 320, 269, 321, 267, 322]),
    ],
)
def test_accents_scripts_numbers_and_marks_have_the_ids_of_openclips_own_tokenizer(
    tokenizer, prompt, ids
):
    found = tokenizer("<|endoftext|>")(prompt, add_special_tokens=False).input_ids

    assert found == ids


def test_the_second_tokenizer_fills_up_with_id_0(tokenizer):
    ids = tokenizer("!")("a photo of a cat", padding="max_length").input_ids

    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407] + [0] * 70
