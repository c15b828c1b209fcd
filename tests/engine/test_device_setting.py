"""`--device`: refused where it is not, recorded where it is, no part of what a plan is."""

from __future__ import annotations

import json

import pytest
import torch

from sdbatch.api import load_model, plan, render
from sdbatch.engine import planned_model
from sdbatch.errors import InputError
from sdbatch.model_specs import RenderSpec
from sdbatch.plan.fingerprint import plan_id

TWO = {"prompt": ["a red circle", "a blue star"], "engine": "inline", "model": "fake"}


def job(out):
    return json.loads((out / "__sdbatch/main/job.json").read_text())


class Notes:
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.notes = []

    def note(self, line):
        self.notes.append(line)

    def __getattr__(self, _):
        return lambda *_, **__: None


@pytest.mark.skipif(torch.xpu.is_available(), reason="there is one")
def test_a_device_that_is_not_here_ends_the_run_before_anything_stands(tmp_path):
    with pytest.raises(
        InputError, match=r"--device xpu: there is none here, use auto or .*cpu"
    ) as e:
        render(None, tmp_path / "out", prompt=["a"], engine="inline", device="xpu")

    assert e.value.exit_code == 2
    assert not (tmp_path / "out/__sdbatch/main/job.json").exists()


def test_an_unknown_device_is_refused():
    with pytest.raises(InputError, match=r"--device: render\.device"):
        plan(None, "out", **{**TWO, "device": "tpu"})


def test_what_auto_found_is_recorded_and_the_plan_is_the_same(tmp_path):
    render(None, tmp_path / "auto", **TWO)
    render(None, tmp_path / "cpu", **TWO, device="cpu")
    auto, cpu = job(tmp_path / "auto"), job(tmp_path / "cpu")

    assert auto["resolved"]["render.device"] == cpu["resolved"]["render.device"] == "cpu"
    assert (auto["spec"]["render"]["device"], cpu["spec"]["render"]["device"]) == ("auto", "cpu")
    assert plan_id(auto["resolved"]) == plan_id(cpu["resolved"]) == auto["plan_id"]


def test_a_planned_device_stands_until_another_is_named(tmp_path):
    out = tmp_path / "out"
    render(None, out, **TWO, device="cpu")

    again = plan(None, out, **TWO)
    assert again.settings["render.device"].value == "cpu"
    assert again.settings["render.device"].source == "as planned"
    named = plan(None, out, **TWO, device="cuda")
    assert (named.settings["render.device"].value, named.standing) == ("cuda", True)


@pytest.mark.parametrize(("planned", "here"), [("cuda", "auto"), ("auto", "auto"), ("cpu", "cpu")])
def test_a_picture_is_drawn_again_on_what_is_here(monkeypatch, planned, here):
    asked = []
    monkeypatch.setattr(planned_model, "load_renderer", lambda spec, _: asked.append(spec.device))
    monkeypatch.setattr(planned_model, "planned_folder", lambda *_, **__: "folder")
    planned_model.load_planned(RenderSpec("m", "", "", "auto", {}, 1, device=planned))

    assert asked == [here]


def test_a_model_is_loaded_where_it_was_asked_for():
    with pytest.raises(InputError, match=r"--device xpu: there is none here"):
        load_model(device="xpu")


def test_a_run_begins_with_its_settings(tmp_path):
    told = Notes()
    render(None, tmp_path / "out", report=told, **TWO, seed=3, device="cpu")

    assert told.notes[0].startswith("2 rows, 2 images, 1 shards; model fake (")
    assert "seed 3 (--seed)" in told.notes[1]
    assert "device cpu (--device)" in told.notes[1]
