"""`sdbatch verify`: the share of shards it reads, and what it prints for machines."""

import json

import pytest
from click.testing import CliRunner

from sdbatch.cli.verify import command
from sdbatch.storage.store import open_store
from tests.audit.tiny_dataset import write_dataset


@pytest.fixture
def ask(tmp_path):
    """Runs `verify` on a small dataset with some more words."""
    write_dataset(open_store(tmp_path / "out"))
    return lambda *words: CliRunner().invoke(command, [str(tmp_path / "out"), *words])


def test_a_sample_reads_a_share_of_the_shards(ask):
    report = json.loads(ask("--level", "2", "--sample", "0.4", "--json").output)

    assert (report["sampled"], report["committed"], report["exit_code"]) == (2, 3, 0)
    assert report["remarks"] == []


@pytest.mark.parametrize("share", ["0", "1.5", "half"])
def test_an_impossible_share_is_refused(ask, share):
    answer = ask("--level", "2", "--sample", share)

    assert answer.exit_code == 2
    assert "--sample" in answer.output
