"""An autoencoder of the Hub: its configuration for a plan, its weights for a worker, once."""

import pytest

from sdbatch.errors import ModelError
from sdbatch.render.vae.vae_hub import CONFIG, WEIGHTS, vae_snapshot
from sdbatch.render.weights.hub_address import HubAddress
from tests.render.fake_hub import asked_here


@pytest.mark.parametrize("part", ["", "vae/"])
def test_a_plan_fetches_the_configuration_and_a_worker_the_weights(tmp_path, monkeypatch, part):
    folder = tmp_path / "repo"
    (folder / part).mkdir(parents=True)
    for name in (f"{part}{CONFIG}", f"{part}{WEIGHTS}", "README.md"):
        (folder / name).write_text("{}")
    with asked_here(tmp_path, monkeypatch) as server:
        commit = server.repo("org/vae", folder).branches["main"]

        planned = vae_snapshot(HubAddress("org/vae"), weights=False)
        assert planned.name == commit
        assert server.downloads() == [f"{part}{CONFIG}"]

        vae_snapshot(HubAddress("org/vae", commit))
        assert (planned / f"{part}{WEIGHTS}").is_file()
        asked = len(server.requests)
        assert vae_snapshot(HubAddress("org/vae", commit)) == planned
        assert len(server.requests) == asked  # what lies here is used as it lies


def test_what_is_not_there_is_said_in_one_line(tmp_path, monkeypatch):
    with asked_here(tmp_path, monkeypatch), pytest.raises(ModelError, match="org/gone") as refused:
        vae_snapshot(HubAddress("org/gone"))
    assert "\n" not in str(refused.value)
