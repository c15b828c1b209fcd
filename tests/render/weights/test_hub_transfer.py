"""Around a transfer stands a lock: whoever waited for it finds what it came for."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from sdbatch.render.weights import hub_transfer
from sdbatch.render.weights.fetched_model import Need
from sdbatch.render.weights.model_facts import find_model
from tests.render.fake_hub import asked_here

NAME = "org/shapes"
SHAPES = Path(__file__).parents[3] / "sdbatch" / "models" / "shapes"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that this process asks, with an empty cache."""
    with asked_here(tmp_path / "home", monkeypatch) as server:
        yield server


def test_what_another_process_has_brought_meanwhile_is_asked_for_no_more(hub, monkeypatch):
    commit = hub.repo(NAME, SHAPES).branches["main"]
    lock = hub_transfer.one_at_a_time

    @contextmanager
    def late(path, waiting):
        with lock(path, waiting):
            snapshot_download(NAME, revision=commit)
            hub.requests.clear()
            yield
            assert hub.requests == []

    monkeypatch.setattr(hub_transfer, "one_at_a_time", late)
    assert find_model(NAME, Need(revision=commit)).missing_bytes == 0
    assert hub.requests == []
