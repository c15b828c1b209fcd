"""A setting's solver is found once per process, beside the passes, and never forgets why not."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future

import diffusers
import pytest
import torch

from sdbatch.errors import InputError
from sdbatch.render import solvers as solvers_module
from sdbatch.render.schedulers import noise_from, scheduler_setting
from sdbatch.render.solvers import Solvers, Tabled, Untabled, _Shelf
from tests.render.drawing import make_row, pictures

pytestmark = pytest.mark.render

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@pytest.fixture(autouse=True)
def empty_shelf(monkeypatch):
    monkeypatch.setattr(solvers_module, "SHELF", _Shelf())


@pytest.fixture
def builds(monkeypatch):
    """Settings in the order in which their tables were built, and by which thread."""
    seen, real = [], solvers_module.build_table

    def build(name, config, overrides, steps, timing):
        seen.append((name, steps, threading.current_thread().name))
        return real(name, config, overrides, steps, timing=timing)

    monkeypatch.setattr(solvers_module, "build_table", build)
    return seen


def test_a_setting_is_built_once_for_all_renderers_of_a_process(builds):
    first = Solvers(SD).find(make_row(0))
    second = Solvers(dict(SD)).find(make_row(1))

    assert first is second
    assert len(builds) == 1


def test_models_with_other_schedules_share_nothing(builds):
    first, second = (
        Solvers(SD).find(make_row(0)),
        Solvers({**SD, "beta_end": 0.02}).find(make_row()),
    )

    assert isinstance(first, Tabled)
    assert isinstance(second, Tabled)
    assert first.table != second.table


def test_tables_are_built_on_their_own_thread_and_the_time_is_counted(builds):
    spent = []

    Solvers(SD, spent.append).find(make_row(0))

    assert [thread.startswith("solvers") for _, _, thread in builds] == [True]
    assert len(spent) == 1
    assert spent[0] > 0


def test_ahead_of_time_nobody_waits(monkeypatch):
    gate, real = threading.Event(), solvers_module.build_table

    def slow(*asked, **options):
        assert gate.wait(30)
        return real(*asked, **options)

    monkeypatch.setattr(solvers_module, "build_table", slow)
    solvers = Solvers(SD)

    before = solvers.ahead(make_row(0))
    gate.set()

    assert before is None
    assert isinstance(solvers.find(make_row(0)), Tabled)
    assert isinstance(solvers.ahead(make_row(0)), Tabled)


class Counting:
    """A model that counts its passes."""

    def __init__(self, model):
        self._model, self.passes = model, 0
        self.channels, self.device = model.channels, model.device
        self.num_numbers, self.row_numbers = model.num_numbers, model.row_numbers

    def predict(self, inputs):
        self.passes += 1
        return self._model.predict(inputs)


def test_passes_go_on_while_a_table_is_built(renderer, spoil, monkeypatch):
    gate, real = threading.Event(), solvers_module.build_table
    model = spoil(Counting)

    def slow(name, *rest, **options):
        assert name != "LMSDiscreteScheduler" or gate.wait(30)
        return real(name, *rest, **options)

    def feed():
        yield make_row(0, num_inference_steps=5)
        while not model.passes:  # lanes that stand idle would wait for the second row
            yield None
        yield make_row(1, scheduler="LMSDiscreteScheduler")
        while model.passes < 5:
            yield None
        gate.set()

    monkeypatch.setattr(solvers_module, "build_table", slow)

    assert sorted(pictures(renderer.render(feed()))) == [0, 1]
    assert gate.is_set()


def test_a_refused_setting_says_the_same_every_time(builds):
    solvers, row = Solvers(SD), make_row(0, scheduler="DDIMScheduller")

    reasons = []
    for _ in range(3):
        with pytest.raises(InputError) as caught:
            solvers.find(row)
        reasons.append((str(caught.value), len(caught.traceback)))

    assert "did you mean" in reasons[0][0]
    assert len(set(reasons)) == 1


def test_what_is_no_fault_of_the_setting_is_not_remembered(monkeypatch):
    real, left = solvers_module.build_table, [MemoryError("no memory")]

    def build(*asked, **options):
        if left:
            raise left.pop()
        return real(*asked, **options)

    monkeypatch.setattr(solvers_module, "build_table", build)
    solvers = Solvers(SD)

    with pytest.raises(MemoryError):
        solvers.find(make_row(0))

    assert isinstance(solvers.find(make_row(0)), Tabled)


def test_the_shelf_is_bounded_and_keeps_what_was_used_last(monkeypatch):
    monkeypatch.setattr(solvers_module, "KEPT", 2)
    shelf, made = _Shelf(), []

    def get(steps) -> Future:
        future = shelf.get(("a", "", "", steps), lambda: made.append(steps))
        future.result()
        return future

    for steps in (1, 2, 1, 3, 1, 2):
        get(steps)

    assert made == [1, 2, 3, 2]


def test_a_walk_leaves_the_noise_of_other_threads_alone():
    scheduler = scheduler_setting("EulerAncestralDiscreteScheduler", SD, {}, 4).make()
    module = diffusers.schedulers.scheduling_euler_ancestral_discrete
    real, found = module.randn_tensor, {}

    def draw(name):
        generator = torch.Generator().manual_seed(3)
        found[name] = module.randn_tensor((2, 2), generator=generator, dtype=torch.float32)

    with noise_from(scheduler, lambda _: torch.full((2, 2), 7.0)) as drawn:
        draw("here")
        other = threading.Thread(target=draw, args=("there",))
        other.start()
        other.join()

    assert torch.equal(found["here"], torch.full((2, 2), 7.0))
    assert torch.equal(
        found["there"], torch.randn(2, 2, generator=torch.Generator().manual_seed(3))
    )
    assert drawn == [0]
    assert module.randn_tensor is real


def test_two_walks_at_once_each_draw_their_own():
    scheduler = scheduler_setting("EulerAncestralDiscreteScheduler", SD, {}, 4).make()
    module = diffusers.schedulers.scheduling_euler_ancestral_discrete
    real, meet, found = module.randn_tensor, threading.Barrier(2), {}

    def walk(number):
        with noise_from(scheduler, lambda _: torch.full((1,), float(number))):
            meet.wait(30)
            found[number] = float(module.randn_tensor((1,), dtype=torch.float32))
            meet.wait(30)

    walks = [threading.Thread(target=walk, args=(number,)) for number in (1, 2)]
    for each in walks:
        each.start()
    for each in walks:
        each.join()

    assert found == {1: 1.0, 2: 2.0}
    assert module.randn_tensor is real


def test_rows_with_and_without_tables_come_out_as_before_when_their_solvers_were_not_there(
    renderer,
):
    rows = [
        make_row(i, scheduler_config=json.dumps({"clip_sample": True}) if i % 2 else "")
        for i in range(4)
    ]

    first = pictures(renderer.render(rows))
    again = pictures(renderer.render(rows))

    assert sorted(first) == [0, 1, 2, 3]
    assert all((first[index] == again[index]).all() for index in first)
    assert isinstance(Solvers(SD).find(rows[1]), Untabled)
