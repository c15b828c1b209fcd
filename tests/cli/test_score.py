"""`sdbatch score` from the shell: refusals in one line, a summary for machines."""

import json

from click.testing import CliRunner

from sdbatch import api
from sdbatch.cli.main import sdbatch
from sdbatch.errors import SdbatchError

FAKE = {"model": "fake", "engine": "inline", "size": "64x64", "shard_size": 8}


def score(*args):
    return CliRunner().invoke(sdbatch, ["score", *map(str, args)], standalone_mode=False)


def test_a_dataset_is_scored_and_machines_are_told(tmp_path):
    api.render([{"prompt": f"p {k}"} for k in range(9)], tmp_path / "out", **FAKE)
    done = score(tmp_path / "out", "--score", "clip=fake", "--safety", "fake", "--json")
    assert done.return_value == 0
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["pictures"], said["shards"], said["exit_code"]) == (9, 4, 0)
    assert said["columns"] == ["clip_score", "nsfw", "nsfw_score"]
    again = score(tmp_path / "out", "--score", "clip=fake")
    assert "0 pictures in 0 shards" in again.stdout
    assert "2 stood already" in again.stdout


def test_another_model_under_the_same_name_is_refused_with_exit_2(tmp_path):
    api.render([{"prompt": "p"}], tmp_path / "out", **FAKE)
    assert score(tmp_path / "out", "--score", "clip=fake").return_value == 0
    refused = score(tmp_path / "out", "--score", "clip=fake:ms=1")
    assert isinstance(refused.exception, SdbatchError)
    assert refused.exception.exit_code == 2
    assert "such as clip2" in str(refused.exception)
