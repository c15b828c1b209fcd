"""`auto` that was wrong about memory takes the next smaller way; what was asked for does not."""

from dataclasses import replace

import numpy as np
import pytest

from sdbatch.errors import DeviceMemoryError
from sdbatch.model_specs import RenderSpec, Speed
from sdbatch.render import diffusers_folder, loading
from sdbatch.render.memory import falling_back, memory_choice
from sdbatch.render.memory.falling_back import first_that_loads
from sdbatch.render.memory.memory_choice import DeviceRoom
from tests.render.drawing import make_row, pictures

ROOMY = DeviceRoom(10**12, shared=False)


@pytest.fixture
def spec(shapes, monkeypatch):
    """Of a device that is no host, and says that it has room for everything."""
    for module in (memory_choice, falling_back):
        monkeypatch.setattr(module, "device_room", lambda _: ROOMY)
    return RenderSpec("shapes", shapes.path, shapes.revision, "auto", {"32x32": 4}, 1)


def test_weights_that_do_not_fit_after_all_are_held_in_rooms(spec, monkeypatch):
    wanted = pictures(loading.load_renderer(spec, []).render([make_row(0)]))
    real, tried = diffusers_folder.join_rooms, []

    def join(*args, **kwargs):
        tried.append(args[-1])
        if args[-1] == "resident":
            raise DeviceMemoryError("model shapes: the weights do not fit")
        return real(*args, **kwargs)

    monkeypatch.setattr(diffusers_folder, "join_rooms", join)
    renderer = loading.load_renderer(spec, [(32, 32)])

    assert tried == ["resident", "rooms"]
    assert renderer.residence.phased
    assert [note for note in renderer.notes if note.startswith("memory")] == [
        "memory: rooms, for otherwise: model shapes: the weights do not fit"
    ]
    found = pictures(renderer.render([make_row(0)]))
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)


def failing(tried):
    def load(spec):
        tried.append(spec.memory)
        raise DeviceMemoryError(f"no room for {spec.memory}")

    return load


@pytest.mark.parametrize(
    ("changes", "ways"),
    [
        ({}, ["auto", "rooms", "offload"]),
        ({"speed": Speed(compile=True)}, ["auto", "rooms"]),
        ({"quantize": "nf4"}, ["auto", "rooms"]),
        ({"memory": "rooms"}, ["rooms"]),
        ({"memory": "resident"}, ["resident"]),
    ],
)
def test_the_smallest_way_is_the_last_and_a_way_that_was_asked_for_the_only_one(
    spec, changes, ways
):
    tried = []
    with pytest.raises(DeviceMemoryError, match=f"no room for {ways[-1]}"):
        first_that_loads(replace(spec, **changes), failing(tried))

    assert tried == ways


def test_a_host_has_no_smaller_way(spec, monkeypatch):
    monkeypatch.setattr(falling_back, "device_room", lambda _: DeviceRoom(1, shared=True))
    tried = []
    with pytest.raises(DeviceMemoryError):
        first_that_loads(spec, failing(tried))

    assert tried == ["auto"]
