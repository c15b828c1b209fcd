"""Scores are those of the libraries, of the picture alone, and never cost one."""

import numpy as np
import pytest
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sdbatch.errors import InputError, ModelError
from sdbatch.model_specs import ScorerSpec
from sdbatch.render.judges.scorer_facts import find_scorers
from sdbatch.render.judges.scorers import Panel, load_panel, plain_prompt
from tests.render.tiny_scorers import make_aesthetic, make_checker, make_clip, make_siglip

PROMPTS = ["a large red star", "two blue circles on a green background", "", "a red star"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("scorers")
    make_clip(root / "clip")
    make_siglip(root / "siglip")
    make_aesthetic(root / "taste")
    make_checker(root / "safety")
    return root


@pytest.fixture(scope="module")
def panel(folders):
    names = ("clip", "siglip", "taste")
    specs = find_scorers({name: str(folders / name) for name in names}, str(folders / "safety"))
    return load_panel(specs)


@pytest.fixture(scope="module")
def drawn():
    chance = np.random.default_rng(0)
    sizes = [(64, 64), (48, 80), (32, 32), (100, 40)]
    return [chance.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def inputs(folder, pictures, prompts):
    images = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    if "siglip" in str(folder):
        images = transformers.SiglipImageProcessorPil.from_pretrained(folder)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    kwargs = {"padding": "max_length", "max_length": 16, "truncation": True}
    made = words(prompts, return_tensors="pt", **kwargs)
    if "siglip" in str(folder):
        del made["attention_mask"]
    return {**made, **images(images=pictures, return_tensors="pt")}


def values(panel, pictures, prompts, column):
    return [row[column] for row in panel.judge(pictures, prompts).values]


def test_a_clip_score_is_the_cosine_of_transformers_own_model(panel, folders, drawn):
    model = transformers.CLIPModel.from_pretrained(folders / "clip").eval()
    with torch.no_grad():
        said = model(**inputs(folders / "clip", drawn, PROMPTS))
    cosine = (said.logits_per_image / model.logit_scale.exp()).diagonal().tolist()
    scores = values(panel, drawn, PROMPTS, "clip_score")
    assert scores[2] is None  # nothing was asked for
    assert [*scores[:2], scores[3]] == pytest.approx([*cosine[:2], cosine[3]], abs=1e-6)
    assert len({round(score, 4) for score in scores if score is not None}) == 3
    assert all(-1 <= score <= 1 for score in scores if score is not None)


def test_a_siglip_score_is_the_probability_of_transformers_own_model(panel, folders, drawn):
    model = transformers.SiglipModel.from_pretrained(folders / "siglip").eval()
    with torch.no_grad():
        said = model(**inputs(folders / "siglip", drawn, PROMPTS))
    expected = said.logits_per_image.diagonal().sigmoid().tolist()
    scores = values(panel, drawn, PROMPTS, "siglip_score")
    assert scores[2] is None
    assert [*scores[:2], scores[3]] == pytest.approx([*expected[:2], expected[3]], abs=1e-6)


def test_the_checker_flags_what_diffusers_flags_and_leaves_pictures_alone(tmp_path, drawn):
    flagged = set()
    for threshold in (0.0, 0.5, 0.68, 0.9):
        folder = make_checker(tmp_path / str(threshold), threshold=threshold)
        model = StableDiffusionSafetyChecker.from_pretrained(folder, attn_implementation="eager")
        images = transformers.CLIPImageProcessorPil.from_pretrained(folder)
        seen = images(images=drawn, return_tensors="pt").pixel_values
        _, expected = model.eval()(clip_input=seen, images=np.stack([np.ones((2, 2, 3))] * 4))
        before = [picture.copy() for picture in drawn]
        panel = load_panel(find_scorers({}, str(folder)))
        assert values(panel, drawn, PROMPTS, "nsfw") == expected
        scores = values(panel, drawn, PROMPTS, "nsfw_score")
        assert [score > 0 for score in scores] == expected
        assert all(np.array_equal(a, b) for a, b in zip(drawn, before, strict=True))
        flagged |= set(expected)
    assert flagged == {True, False}


def test_a_checker_is_found_in_a_pipelines_folder(tmp_path, drawn):
    inner = make_checker(tmp_path / "pipe" / "safety_checker")
    (tmp_path / "pipe" / "feature_extractor").mkdir()
    settings_file = inner / "preprocessor_config.json"
    settings_file.rename(tmp_path / "pipe" / "feature_extractor" / settings_file.name)
    alone = load_panel(find_scorers({}, str(make_checker(tmp_path / "alone"))))
    inside = load_panel(find_scorers({}, str(tmp_path / "pipe")))
    assert inside.judge(drawn, PROMPTS).values == alone.judge(drawn, PROMPTS).values


def test_weights_saved_by_older_libraries_are_all_loaded(tmp_path, drawn):
    new = make_checker(tmp_path / "new")
    old = make_checker(tmp_path / "old", seed=1)
    state = load_file(new / "model.safetensors")
    nested = {name.replace("vision_model.", "vision_model.vision_model."): value.clone()
              for name, value in state.items()}  # fmt: skip
    assert len(nested) == len(state)
    save_file(nested, old / "model.safetensors", {"format": "pt"})
    panels = [load_panel(find_scorers({}, str(folder))) for folder in (new, old)]
    scores = [values(panel, drawn, PROMPTS, "nsfw_score") for panel in panels]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("pickled", [False, True])
def test_an_aesthetic_score_is_the_head_over_the_normalised_embedding(tmp_path, drawn, pickled):
    head = make_aesthetic(tmp_path, pickled=pickled)
    model = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        value = model(**inputs(tmp_path, drawn, PROMPTS)).image_embeds
        for at in (0, 2, 4):
            value = value @ head[f"layers.{at}.weight"].T + head[f"layers.{at}.bias"]
    panel = load_panel(find_scorers({"aesthetic": str(tmp_path)}))
    assert values(panel, drawn, PROMPTS, "aesthetic_score") == pytest.approx(
        value[:, 0].tolist(), abs=1e-5
    )


@settings(max_examples=12, deadline=None)
@given(order=st.permutations(range(4)), count=st.integers(1, 4))
def test_what_is_said_of_a_picture_does_not_depend_on_its_neighbours(panel, drawn, order, count):
    alone = [panel.judge([drawn[at]], [PROMPTS[at]]).values[0] for at in range(4)]
    chosen = order[:count]
    said = panel.judge([drawn[at] for at in chosen], [PROMPTS[at] for at in chosen]).values
    assert said == [alone[at] for at in chosen]


class Broken:
    name, columns, revision = "moody", ("moody_score",), "r"

    def __init__(self, error=ValueError):
        self.error = error

    def score(self, pictures, prompts):
        if any(picture.max() == 255 for picture in pictures):
            raise self.error("this picture\nis too bright")
        return {"moody_score": [float("nan") if p.max() == 7 else 1.0 for p in pictures]}


def test_a_scorer_that_fails_on_one_picture_costs_that_number_alone():
    pictures = [np.full((4, 4, 3), value, np.uint8) for value in (1, 255, 7, 2)]
    specs = [ScorerSpec("fake", "fake", "fake", "fake:", "r")]
    panel = Panel([Broken(), *load_panel(specs).scorers], 4)
    judged = panel.judge(pictures, ["a"] * 4)
    assert [row["moody_score"] for row in judged.values] == [1.0, None, None, 1.0]
    assert judged.faults == ["", "moody: ValueError: this picture is too bright", "", ""]
    assert all(0 <= row["fake_score"] < 1 for row in judged.values)


def test_a_device_that_fails_is_no_fault_of_a_picture():
    panel = Panel([Broken(KeyError)], 4, fatal=(KeyError,))
    with pytest.raises(KeyError):
        panel.judge([np.full((4, 4, 3), 255, np.uint8)], ["a"])


def test_memory_that_torch_held_for_others_is_given_back_before_a_score_is_given_up(
    panel, drawn, monkeypatch
):
    scorer = panel.scorers[0]
    real, calls = scorer._numbers, []

    def once_full(*args):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args)

    expected = values(panel, drawn, PROMPTS, "clip_score")
    monkeypatch.setattr(scorer, "_numbers", once_full)
    assert values(panel, drawn, PROMPTS, "clip_score") == expected
    assert len(calls) == 2


def test_no_scorers_are_no_panel():
    assert load_panel(()) is None


def damage(folder, fault):
    if fault == "no weights":
        (folder / "model.safetensors").unlink()
    elif fault == "half the weights":
        state = load_file(folder / "model.safetensors")
        half = {name: value for name, value in state.items() if "vision_model" not in name}
        save_file(half, folder / "model.safetensors", {"format": "pt"})
    elif fault == "no processor":
        (folder / "preprocessor_config.json").unlink()
    elif fault == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif fault == "cut":
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("no weights", "cannot be loaded"),
        ("half the weights", "lacks"),
        ("no processor", "cannot be loaded"),
        ("pickle", "only .bin weights"),
        ("cut", "cannot be loaded"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_in_one_line(tmp_path, fault, says):
    make_clip(tmp_path)
    damage(tmp_path, fault)
    with pytest.raises(ModelError, match=says) as caught:
        load_panel(find_scorers({"clip": str(tmp_path)}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ({"weight": torch.ones(1, 9), "bias": torch.ones(1)}, "does not take the 8 numbers"),
        ({"weight": torch.ones(2, 8), "bias": torch.ones(2)}, "does not end in one number"),
        ({"other": torch.ones(2, 8)}, "does not end in one number"),
        ({"weight": torch.ones(1, 8)}, "does not take the 8 numbers"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(tmp_path, head, says):
    make_clip(tmp_path)
    save_file(head, tmp_path / "aesthetic.safetensors")
    with pytest.raises(ModelError, match=says):
        load_panel(find_scorers({"taste": str(tmp_path)}))


def test_code_in_a_head_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    make_clip(tmp_path)
    torch.save({"weight": Evil()}, tmp_path / "aesthetic.pth")
    with pytest.raises(ModelError, match="cannot be read"):
        load_panel(find_scorers({"taste": str(tmp_path)}))
    assert not (tmp_path / "ran").exists()


def test_a_device_that_is_not_there_is_refused(folders):
    with pytest.raises(InputError, match="--device cuda:99"):
        load_panel(find_scorers({"clip": str(folders / "clip")}), device="cuda:99")


@pytest.mark.parametrize(
    ("prompt", "syntax", "plain"),
    [
        ("a (red:1.3) [star] BREAK on \\(blue\\)", "a1111", "a red star on (blue)"),
        ("a (red:1.3) star", "plain", "a (red:1.3) star"),
    ],
)
def test_weights_of_words_are_not_read_as_words(prompt, syntax, plain):
    assert plain_prompt(prompt, syntax) == plain
