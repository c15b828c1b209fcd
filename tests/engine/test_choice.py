"""Which engine: asked for, or the one that fits the machine."""

import socket

import pytest

from sdbatch.engine import choice
from sdbatch.engine.choice import RunOptions, choose_engine, demand_reachable
from sdbatch.errors import EngineError, InputError, JobError


@pytest.fixture
def machine(monkeypatch):
    def be(linux, has_ray):
        monkeypatch.setattr(choice, "_on_linux", lambda: linux)
        found = object() if has_ray else None
        monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: found)

    return be


@pytest.mark.parametrize(
    ("linux", "has_ray", "workers", "private", "engine"),
    [
        (True, True, None, False, "ray"),
        (True, True, 1, False, "ray"),
        (True, False, None, False, "inline"),
        (False, True, None, False, "inline"),
        (False, True, 1, False, "inline"),
        (False, True, 2, False, "ray"),
        (True, True, None, True, "inline"),
    ],
)
def test_auto_takes_ray_on_linux_and_for_several_workers(
    machine, linux, has_ray, workers, private, engine
):
    machine(linux, has_ray)

    assert choose_engine(RunOptions(workers=workers), private) == engine


def test_an_address_means_ray(machine):
    machine(linux=False, has_ray=True)

    assert choose_engine(RunOptions(address="auto"), False) == "ray"
    assert choose_engine(RunOptions(address="10.0.0.1:6379"), False) == "ray"


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head", "head", "head:port"])
def test_an_address_that_is_none_is_refused(machine, address):
    machine(linux=True, has_ray=True)

    with pytest.raises(JobError, match="auto or HOST:PORT"):
        choose_engine(RunOptions(address=address), False)


@pytest.mark.parametrize(
    ("options", "has_ray", "private"),
    [
        (RunOptions(engine="ray"), False, False),
        (RunOptions(engine="ray"), True, True),
        (RunOptions(engine="inline", address="auto"), True, False),
        (RunOptions(engine="inline", workers=2), True, False),
    ],
)
def test_what_cannot_work_is_refused(machine, options, has_ray, private):
    machine(linux=True, has_ray=has_ray)

    with pytest.raises(InputError):
        choose_engine(options, private)


def test_an_address_at_which_nothing_answers_is_refused_in_seconds():
    with pytest.raises(EngineError, match="nothing answers"):
        demand_reachable("127.0.0.1:1")


def test_an_address_at_which_something_answers_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        demand_reachable(f"127.0.0.1:{server.getsockname()[1]}")
    demand_reachable("auto")
    demand_reachable(None)
