"""Storage servers for the tests of this folder and of those that render into a bucket."""

from __future__ import annotations

import pytest

from tests.storage import servers

CLOUDS = ("s3", "gs", "az")


def _session_server(kind):
    @pytest.fixture(scope="session", name=f"{kind}_server")
    def start(tmp_path_factory):
        with servers.running(kind, tmp_path_factory.mktemp(kind)) as server:
            yield server

    return start


s3_server, gs_server, az_server = (_session_server(kind) for kind in CLOUDS)


@pytest.fixture
def reach(monkeypatch):
    """Makes a server the one that this process's environment names; returns it."""

    def settle(server):
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        return server

    return settle


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.stores) for kind in CLOUDS])
def cloud(request, reach):
    """A running server of each kind, reachable by the environment."""
    return reach(request.getfixturevalue(f"{request.param}_server"))


@pytest.fixture
def s3(request, reach):
    """The S3 server."""
    return reach(request.getfixturevalue("s3_server"))
