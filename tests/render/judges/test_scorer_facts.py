"""Scorers are told apart and refused by their files, before anything is loaded."""

import json
import shutil
import subprocess
import sys

import pytest

from sdbatch.errors import JobError, ModelError
from sdbatch.render.judges.scorer_facts import find_scorer, find_scorers, planned_scorer
from tests.render.tiny_scorers import make_aesthetic, make_checker, make_clip, make_siglip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("facts")
    make_clip(root / "clip")
    make_siglip(root / "siglip")
    make_aesthetic(root / "taste")
    make_checker(root / "safety")
    return root


def test_a_folder_says_what_kind_of_scorer_it_is(folders):
    names = ("clip", "siglip", "taste")
    found = find_scorers({name: str(folders / name) for name in names}, str(folders / "safety"))
    assert [each.kind for each in found] == ["clip", "siglip", "aesthetic", "safety"]
    assert [each.columns for each in found] == [
        ("clip_score",),
        ("siglip_score",),
        ("taste_score",),
        ("nsfw", "nsfw_score"),
    ]
    assert len({each.revision for each in found}) == 4


@pytest.mark.parametrize("none", ["", "none"])
def test_no_safety_checker_is_asked_for_by_nothing_or_none(none):
    assert find_scorers({}, none) == ()


def test_a_revision_follows_the_files_and_nothing_else(folders, tmp_path):
    here = shutil.copytree(folders / "clip", tmp_path / "elsewhere")
    assert find_scorer("a", str(here)).revision == find_scorer("b", str(folders / "clip")).revision
    (here / "notes.md").write_text("mine")
    assert find_scorer("a", str(here)).revision == find_scorer("b", str(folders / "clip")).revision
    settings = json.loads((here / "preprocessor_config.json").read_text())
    (here / "preprocessor_config.json").write_text(json.dumps(settings | {"resample": 2}))
    assert find_scorer("a", str(here)).revision != find_scorer("b", str(folders / "clip")).revision


def test_a_planned_scorer_must_be_the_one_that_was_planned(folders, tmp_path, monkeypatch):
    here = shutil.copytree(folders / "clip", tmp_path / "clip")
    planned = find_scorer("clip", str(here))
    assert planned_scorer(planned) == planned
    moved = here.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="there is no such folder"):
        planned_scorer(planned)
    monkeypatch.setenv("SDBATCH_MODELS", str(tmp_path))
    by_name = find_scorer("clip", "moved")
    assert planned_scorer(by_name).path == str(moved)
    (moved / "config.json").write_text((moved / "config.json").read_text() + " ")
    with pytest.raises(ModelError, match="the plan was made with"):
        planned_scorer(by_name)


@pytest.mark.parametrize(
    ("name", "model", "says"),
    [
        ("Clip", "fake", "a name is up to 40"),
        ("../up", "fake", "a name is up to 40"),
        ("", "fake", "a name is up to 40"),
        ("clip", "no/such/folder", "there is no such folder"),
        ("clip", "nowhere", "--score clip=nowhere: there is no such folder"),
        ("safety", "nowhere", "--safety nowhere: there is no such folder"),
        ("clip", "{root}", "has no config.json"),
        ("clip", "{root}/safety", "is a safety checker, use --safety"),
        ("safety", "{root}/clip", "is no StableDiffusionSafetyChecker"),
    ],
)
def test_what_is_no_scorer_is_refused(folders, name, model, says):
    with pytest.raises((JobError, ModelError)) as caught:
        find_scorer(name, model.format(root=folders))
    assert says in str(caught.value)


def test_another_kind_of_model_is_refused_by_its_type(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="its model_type is 'llama', use a CLIP or SigLIP"):
        find_scorer("clip", str(tmp_path))


def test_a_plan_reads_scorers_without_torch(folders):
    code = (
        "import sys; from sdbatch.render.judges.scorer_facts import find_scorers; "
        f"find_scorers({{'clip': {str(folders / 'clip')!r}}}); "
        "assert not {'torch', 'transformers', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
