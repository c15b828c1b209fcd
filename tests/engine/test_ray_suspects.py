"""Actors out of reach: asked, waited for, ended. The actors are made up."""

import pytest
import ray
from ray.exceptions import ActorUnavailableError, RayActorError

from sdbatch.engine import ray_suspects
from sdbatch.engine.ray_suspects import PATIENCE_S, Suspects


class Actor:
    """Answers as told, by the name of the call."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def call(self, name):
        self.asked.append(name)
        return (self, name)

    @property
    def drain(self):
        return Method(self, "drain")

    @property
    def __ray_call__(self):
        return Method(self, "after_work")


class Method:
    def __init__(self, actor, name):
        self.actor, self.name = actor, name

    def options(self, **_):
        return self

    def remote(self, *_):
        return self.actor.call(self.name)


@pytest.fixture
def killed(monkeypatch):
    """Actors that were ended; references are answered by their actor."""
    ended = []

    def get(ref):
        actor, name = ref
        if isinstance(actor.answers[name], Exception):
            raise actor.answers[name]

    monkeypatch.setattr(
        ray, "wait", lambda refs, **_: ([r for r in refs if r[0].answers.get(r[1])], [])
    )
    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "kill", lambda actor, no_restart: ended.append(actor))
    return ended


@pytest.fixture
def suspects(monkeypatch):
    monkeypatch.setattr(ray_suspects, "monotonic", lambda: 0.0)
    return Suspects()


UNREACHABLE = ActorUnavailableError("no", b"0" * 16)


def test_one_that_never_answers_is_ended_when_its_time_is_over(killed, suspects):
    silent = Actor()
    suspects.add(silent)
    for now in range(int(PATIENCE_S) + 1):
        suspects.look(float(now))
    before = list(killed)
    suspects.look(PATIENCE_S + 1)

    assert before == []
    assert killed == [silent]
    assert len(suspects) == 0


def test_one_that_is_back_puts_its_work_aside_before_it_is_ended(killed, suspects):
    back = Actor(drain=True)
    suspects.add(back)
    for now in range(4):
        suspects.look(float(now))
    while_draining = list(killed)
    back.answers["after_work"] = True
    suspects.look(5.0)

    assert while_draining == []
    assert killed == [back]
    assert back.asked == ["drain", "after_work"]


def test_one_that_is_known_to_be_dead_is_not_waited_for(killed, suspects):
    dead = Actor(drain=RayActorError())
    suspects.add(dead)
    suspects.look(0.0)
    suspects.look(1.0)

    assert killed == [dead]


def test_one_that_cannot_be_reached_yet_is_asked_again_now_and_then(killed, suspects):
    away = Actor(drain=UNREACHABLE)
    suspects.add(away)
    for now in range(21):
        suspects.look(float(now))

    assert killed == []
    assert 3 <= len(away.asked) <= 5


def test_the_end_of_the_run_is_the_end_of_all(killed, suspects):
    actors = [Actor(), Actor()]
    for actor in actors:
        suspects.add(actor)

    suspects.kill_all()

    assert killed == actors
    assert len(suspects) == 0
