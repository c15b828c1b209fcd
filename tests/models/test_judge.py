"""The judge's command reads a dataset as anyone would and fills the model card."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from sdbatch.models.captions import full_caption
from sdbatch.models.drawing import draw
from sdbatch.models.draws import Draws
from sdbatch.models.judge import TABLE_BEGINS, TABLE_ENDS, command
from sdbatch.models.manifest import command as write_manifest
from sdbatch.models.reading import read_caption
from sdbatch.models.world import CLASSES, random_scenes

COUNT = 60


def _png(picture, size):
    pixels = (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).resize((size, size)).save(data, "PNG")
    return {"bytes": data.getvalue(), "path": None}


@pytest.fixture(autouse=True)
def _not_a_thousand(monkeypatch):
    """The judge's own column is made elsewhere; here a perfect judge stands for it."""
    monkeypatch.setattr(
        "sdbatch.models.judge.judge_real_pictures",
        lambda judge: dict.fromkeys((*CLASSES, "core", "all"), 1.0),
    )


@pytest.fixture
def dataset(tmp_path):
    """A dataset whose pictures are of the world itself, and one prompt of another."""
    draws = Draws(1, 1)
    scenes = random_scenes(COUNT, draws.numpy)
    prompts = [full_caption(scene, draws.words) for scene in scenes.tolist()]
    images = [
        _png(picture, 64 + 64 * (n % 2)) for n, picture in enumerate(draw(scenes, draws.numpy))
    ]
    table = pa.table({"prompt": [*prompts, "a cat"], "image": [*images, images[0]]})
    (tmp_path / "out/data").mkdir(parents=True)
    pq.write_table(table, tmp_path / "out/data/train-00000.parquet")
    return tmp_path / "out"


def _shares(output):
    rows = [line.split("|")[1:4] for line in output.splitlines() if line.startswith("| ")]
    return {title.strip(): drawn.strip() for title, drawn, _ in rows[1:]}


def test_pictures_of_the_world_are_judged_right(dataset):
    done = CliRunner().invoke(command, [str(dataset)])

    assert done.exit_code == 0, done.output
    shares = _shares(done.output)
    assert float(shares["layout, background, shapes and colours"]) > 0.9
    assert float(shares["shape of object 1 / 2"].split(" / ")[1]) > 0.9
    assert f"| {COUNT} drawn pictures" in done.output
    assert "1 more are no full captions" in done.output


def test_the_card_gets_the_table_and_keeps_the_rest(dataset, tmp_path):
    card = tmp_path / "README.md"
    card.write_text(f"# model\n{TABLE_BEGINS}\nold\n{TABLE_ENDS}\nend\n")

    for _ in range(2):
        assert CliRunner().invoke(command, [str(dataset), "--card", str(card)]).exit_code == 0

    text = card.read_text()
    assert text.startswith(f"# model\n{TABLE_BEGINS}\n| {COUNT} drawn")
    assert text.endswith(f"|\n{TABLE_ENDS}\nend\n")
    assert "old" not in text
    assert text.count("| background |") == 1


def test_a_card_without_a_place_for_it_is_left_alone(dataset, tmp_path):
    card = tmp_path / "README.md"
    card.write_text("# model\n")

    done = CliRunner().invoke(command, [str(dataset), "--card", str(card)])
    assert done.exit_code == 1
    assert card.read_text() == "# model\n"


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    done = CliRunner().invoke(command, [str(tmp_path)])

    assert done.exit_code == 1
    assert "data/*.parquet" in done.output


def test_the_manifest_of_unseen_captions_can_be_judged(tmp_path):
    file = tmp_path / "unseen.parquet"
    assert CliRunner().invoke(write_manifest, [str(file), "--count", "30"]).exit_code == 0

    prompts = pq.read_table(file)["prompt"].to_pylist()
    assert len(prompts) == 30
    assert all(read_caption(prompt) for prompt in prompts)
