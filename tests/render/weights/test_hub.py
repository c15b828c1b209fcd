"""A model of the Hub is fetched once, as far as it is read, and never asked for again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from sdbatch.errors import ModelError, ModelUnreachableError
from sdbatch.render.weights import fetching
from sdbatch.render.weights.fetched_model import Need, lying
from sdbatch.render.weights.fetching import Watch
from sdbatch.render.weights.hub import scorer_snapshot
from sdbatch.render.weights.hub_cache import DEAD_AFTER_S, Repo
from sdbatch.render.weights.model_facts import find_model
from tests.render.fake_hub import GOOD_TOKEN, OTHER_TOKEN, asked_here

ROOT = Path(__file__).parents[3]
SHAPES = ROOT / "sdbatch" / "models" / "shapes"
NAME = "org/shapes"
WEIGHTS = {"text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
           "vae/diffusion_pytorch_model.safetensors"}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that this process asks, with an empty cache."""
    with asked_here(tmp_path / "home", monkeypatch) as server:
        yield server


@pytest.fixture
def shapes(hub):
    """The embedded model on the Hub."""
    return hub.repo(NAME, SHAPES)


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded model, to be changed before it is served."""
    return shutil.copytree(SHAPES, tmp_path / "served")


def environment(tmp_path, hub):
    """Variables under which another process asks the same Hub."""
    return {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.endpoint,
            "PYTHONPATH": str(ROOT), "HF_TOKEN": "", "HF_HUB_OFFLINE": "0"}  # fmt: skip


FIND = "from sdbatch.render.weights.model_facts import find_model; print(find_model({name!r}).path)"


def another_process(tmp_path, hub, name=NAME):
    return subprocess.Popen(
        [sys.executable, "-c", FIND.format(name=name)],
        env=environment(tmp_path, hub), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_only_what_a_renderer_reads_is_fetched(hub, folder):
    for junk in ("README.md", "v1.ckpt", "unet/diffusion_pytorch_model.bin", "unet/model.onnx",
                 "unet/flax_model.msgpack", "safety_checker/model.safetensors",
                 "unet/diffusion_pytorch_model.non_ema.safetensors"):  # fmt: skip
        (folder / junk).parent.mkdir(exist_ok=True)
        (folder / junk).write_bytes(b"x" * 2000)
    hub.repo(NAME, folder)

    facts = find_model(NAME)

    sent = set(hub.downloads())
    assert {file for file in sent if file.endswith(".safetensors")} == WEIGHTS
    assert {"model_index.json", "tokenizer/tokenizer.json"} <= sent
    assert not {file for file in sent if Path(file).suffix in (".bin", ".ckpt", ".onnx", ".md")}
    assert facts.size_bytes == sum((SHAPES / file).stat().st_size for file in WEIGHTS)
    assert len(sent) == len(hub.downloads())


def test_what_is_cached_is_used_without_a_question(hub, shapes):
    first = find_model(NAME)
    asked = len(hub.requests)

    assert find_model(NAME) == first
    assert find_model(f"{NAME}@main").path == first.path
    assert find_model(f"{NAME}@{first.revision}").path == first.path
    assert lying(NAME, Need()).folder == Path(first.path)
    assert len(hub.requests) == asked


@pytest.mark.render
def test_loading_what_is_cached_asks_nothing(hub, shapes):
    from sdbatch.model_specs import RenderSpec
    from sdbatch.render.loading import load_renderer

    facts = find_model(NAME)
    asked = len(hub.requests)
    load_renderer(RenderSpec(NAME, facts.path, facts.revision, "float32", {"*": 2}, 1), ())

    assert len(hub.requests) == asked


def test_a_plan_needs_no_weights_and_knows_their_size(hub, shapes):
    facts = find_model(NAME, Need(weights=False))

    assert not {file for file in hub.downloads() if file.endswith(".safetensors")}
    assert facts.missing_bytes == facts.size_bytes > 9_000_000
    assert lying(NAME, Need()) is None

    whole = find_model(NAME, Need(revision=facts.revision))
    assert (whole.missing_bytes, whole.revision) == (0, facts.revision)
    assert find_model(NAME, Need(weights=False)).missing_bytes == 0


def test_a_revision_may_be_a_branch_a_tag_or_a_commit(hub, shapes, folder):
    (folder / "words.txt").write_text("other words")
    tagged = shapes.push(folder, "v2")
    main = shapes.branches["main"]

    assert find_model(NAME).revision == main
    assert find_model(f"{NAME}@v2").revision == tagged
    assert find_model(f"{NAME}@{tagged}").words == {"other", "words"}


def test_a_planned_commit_is_kept_when_main_has_moved(hub, shapes, folder):
    planned = find_model(NAME).revision
    (folder / "words.txt").write_text("moved on")
    moved = shapes.push(folder)

    assert find_model(NAME).revision == planned
    assert find_model(NAME, Need(refresh=True)).revision == moved
    assert find_model(NAME).revision == moved
    assert find_model(NAME, Need(revision=planned)).revision == planned


def test_two_processes_fetch_once(hub, shapes, tmp_path):
    hub.bytes_per_s = 6_000_000
    both = [another_process(tmp_path, hub) for _ in range(2)]
    paths = {process.communicate(timeout=60)[0].strip() for process in both}

    assert [process.returncode for process in both] == [0, 0]
    assert len(paths) == 1
    for file in WEIGHTS:
        assert hub.downloads().count(file) == 1, file


def test_a_killed_fetch_leaves_nothing_that_is_taken_for_a_model(hub, shapes, tmp_path):
    hub.bytes_per_s = 2_000_000
    process = another_process(tmp_path, hub)
    repo = Repo(NAME)
    end = time.monotonic() + 30
    while not any("unet" in file and "safe" in file for file in hub.downloads()):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.communicate()

    left = repo.in_flight()
    assert left
    assert lying(NAME, Need()) is None
    hub.bytes_per_s = None
    long_ago = time.time() - 2 * DEAD_AFTER_S
    for path in left:
        os.utime(path, (long_ago, long_ago))
    facts = find_model(NAME)
    assert not repo.in_flight()
    for file in WEIGHTS:
        assert (Path(facts.path) / file).read_bytes() == (SHAPES / file).read_bytes()


def test_a_transfer_that_is_cut_goes_on_where_it_was(hub, shapes, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**18)
    file = "unet/diffusion_pytorch_model.safetensors"
    hub.cut[file] = 1

    facts = find_model(NAME)

    assert (Path(facts.path) / file).read_bytes() == (SHAPES / file).read_bytes()
    assert [start > 0 for name, start in hub.ranges if name == file] == [True]


def test_progress_grows_to_the_whole(hub, shapes, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)
    hub.bytes_per_s = 4_000_000
    steps = []
    find_model(NAME, Need(watch=Watch(lambda done, total: steps.append((done, total)))))

    done = [step for step, _ in steps]
    assert done == sorted(done)
    assert len(set(done)) > 3
    assert steps[-1] == (max(total for _, total in steps),) * 2


@pytest.mark.parametrize(
    ("access", "token", "said"),
    [
        ("gated", "", "accept its licence at .*/org/shapes.*no token is set here"),
        ("gated", OTHER_TOKEN, "accept its licence at .*/org/shapes.*has no access"),
        ("gated", "hf_wrongwrongwrongwrong1", "is not valid"),
        ("private", "", "or private: check the spelling.*no token is set here"),
        ("private", OTHER_TOKEN, "or private.*has no access"),
        (None, OTHER_TOKEN, "not on the Hub under this name"),
    ],
)
def test_a_refusal_is_one_line_with_the_page_and_the_tokens_state(
    hub, monkeypatch, access, token, said
):
    if access:
        hub.repo(NAME, SHAPES, access=access)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)

    with pytest.raises(ModelError, match=said) as caught:
        find_model(NAME)

    text = str(caught.value)
    assert "\n" not in text
    assert "hf_" not in text
    assert f"{hub.endpoint}/{NAME}" in text
    assert not caught.value.retryable


def test_a_token_with_access_opens_a_gated_model(hub, monkeypatch):
    hub.repo(NAME, SHAPES, access="gated")
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)

    assert find_model(NAME).missing_bytes == 0


def test_an_unknown_revision_is_said(hub, shapes):
    with pytest.raises(ModelError, match=r"has no revision 'v9'"):
        find_model(f"{NAME}@v9")


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_is_down_may_be_asked_again(hub, status):
    hub.status = status

    with pytest.raises(ModelUnreachableError, match=f"answers {status}.*models fetch") as caught:
        find_model(NAME)

    assert caught.value.retryable
    assert "\n" not in str(caught.value)


def test_no_network_is_one_line(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(ModelUnreachableError, match=r"127\.0\.0\.1:9 cannot be reached") as caught:
        find_model(NAME)

    assert "\n" not in str(caught.value)


def test_offline_by_choice_asks_nothing_and_says_so(hub, shapes, tmp_path):
    offline = environment(tmp_path, hub) | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "sdbatch.cli.main", "plan", "--model", NAME, "--prompt", "a"],
        env=offline, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert (done.returncode, hub.requests) == (2, [])
    assert "HF_HUB_OFFLINE forbids asking" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_disk_without_room_is_said_before_a_byte_of_weights_moves(hub, shapes, monkeypatch):
    monkeypatch.setattr(fetching, "free_bytes", lambda folder: 1_000_000)

    with pytest.raises(ModelUnreachableError, match=r"needs 9\.\d MB in .*1\.0 MB are free.*HF_HO"):
        find_model(NAME)

    assert not {file for file in hub.downloads() if file.endswith(".safetensors")}


def as_half(folder, part, keep_plain):
    plain = next((folder / part).glob("*.safetensors"))
    half = plain.with_name(f"{plain.stem}.fp16.safetensors")
    half.write_bytes(plain.read_bytes())
    if not keep_plain:
        plain.unlink()


def test_weights_in_half_precision_are_taken_when_asked_for_and_are_other_weights(hub, folder):
    as_half(folder, "unet", keep_plain=True)
    commit = hub.repo(NAME, folder).branches["main"]

    half = find_model(NAME, Need(half=True))

    assert half.revision == f"{commit}+fp16"
    assert Path(half.path).name == half.revision
    assert "unet/diffusion_pytorch_model.safetensors" not in hub.downloads()
    assert (Path(half.path) / "unet/diffusion_pytorch_model.safetensors").stat().st_size > 10**6
    assert find_model(NAME, Need(revision=half.revision)).path == half.path
    assert find_model(NAME).revision == commit


def test_weights_in_half_precision_are_taken_where_there_are_no_others(hub, folder):
    for part in ("unet", "vae", "text_encoder"):
        as_half(folder, part, keep_plain=False)
    hub.repo(NAME, folder)

    facts = find_model(NAME)

    assert facts.revision.endswith("+fp16")
    assert {path.name for path in (Path(facts.path) / "unet").iterdir()} == {
        "config.json", "diffusion_pytorch_model.safetensors",
    }  # fmt: skip


def test_pickled_weights_are_refused_with_the_way_to_convert_them(hub, folder):
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    hub.repo(NAME, folder)

    with pytest.raises(ModelError, match=r"vae/ has only \.bin weights.*save_pretrained"):
        find_model(NAME)

    assert not {file for file in hub.downloads() if file.endswith((".safetensors", ".bin"))}


def test_a_repository_of_single_files_names_one(hub, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "big.safetensors").write_bytes(b"x" * 2000)
    hub.repo(NAME, tmp_path / "one")

    with pytest.raises(ModelError, match=r"name a file: org/shapes/big\.safetensors"):
        find_model(NAME)
    with pytest.raises(ModelError, match=r"has no other\.safetensors: it has big\.safetensors"):
        find_model(f"{NAME}/other.safetensors")


def test_a_cache_of_an_older_library_is_completed_when_a_file_is_missing(hub, shapes):
    facts = find_model(NAME)
    shutil.rmtree(Repo(NAME).folder / "trees")
    assert lying(NAME, Need()) is not None

    (Path(facts.path) / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert lying(NAME, Need()) is None
    assert find_model(NAME).missing_bytes == 0


def test_what_is_not_for_the_hub_is_not_asked_of_it(hub):
    for name in (
        "./org/name",
        "org/..",
        "/org/name",
        "org/name@",
        "org/name@../../x",
        "C:/org",
        "C:\\org\\name",
    ):
        with pytest.raises(ModelError):
            find_model(name)

    assert hub.requests == []


def test_a_model_that_judges_is_fetched_once_and_then_asked_for_nobody(hub, tmp_path):
    judge = tmp_path / "judge"
    judge.mkdir()
    (judge / "config.json").write_text("{}")
    (judge / "model.safetensors").write_bytes(b"0" * 5000)
    (judge / "pytorch_model.bin").write_bytes(b"0")
    hub.repo("org/judge", judge)

    folder = scorer_snapshot("org/judge")
    asked = len(hub.requests)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert (scorer_snapshot("org/judge"), len(hub.requests)) == (folder, asked)


def test_the_index_decides_which_parts_are_fetched(hub, folder):
    index = json.loads((folder / "model_index.json").read_text())
    index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    shutil.copytree(folder / "text_encoder", folder / "text_encoder_2")
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")
    hub.repo(NAME, folder)

    folder = Path(find_model(NAME).path)

    assert (folder / "text_encoder_2" / "model.safetensors").is_file()
    assert (folder / "tokenizer_2" / "tokenizer.json").is_file()
    assert sum("model.safetensors" in file for file in hub.downloads() if "text" in file) == 1
