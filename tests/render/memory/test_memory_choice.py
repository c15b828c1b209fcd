"""`--memory auto`: the fastest way that fits, and what to do when none does."""

from pathlib import Path

import pytest
import torch

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.architecture import find_architecture
from sdbatch.render.diffusers_folder import _empty
from sdbatch.render.families.known_memory import CARDS_GB, DRIVER_GB, memory_mode
from sdbatch.render.families.known_models import SHORT
from sdbatch.render.loading import load_renderer
from sdbatch.render.memory import holding, memory_choice
from sdbatch.render.memory.counted_bytes import GB
from sdbatch.render.memory.memory_choice import (
    FEWEST_LANES,
    Asking,
    DeviceRoom,
    first_that_fits,
)
from sdbatch.render.memory.memory_modes import (
    MODES,
    OFFLOAD,
    RESIDENT,
    ROOMS,
    Needs,
    RoomNeed,
    needs_of,
)
from sdbatch.render.protocol import Counters
from sdbatch.render.random_model import make_rooms
from sdbatch.render.weights.model_facts import find_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def empty(shapes):
    return lambda dtype: _empty("shapes", Path(shapes.path), dtype)


@pytest.fixture(scope="module")
def needs(empty):
    return needs_of(empty(torch.float32), 4, (32, 32), CPU)


def asking(**changes):
    return Asking(**{
        "model": "shapes", "device": CPU, "dtype": "float32", "size": (32, 32), "num_lanes": 4,
        **changes,
    })  # fmt: skip


def test_weights_are_counted_without_being_read(needs, renderer):
    for need, part in (
        (needs.text, "text_encoder"), (needs.noise, "unet"), (needs.picture, "vae")
    ):  # fmt: skip
        module = renderer.components[part]
        assert need.weights == sum(weight.nbytes for weight in module.parameters())
        assert 0 < need.leaf < need.weights
        assert need.work > 0


def test_half_numbers_take_half_and_quantized_matrices_a_quarter(empty, needs):
    half = needs_of(empty(torch.bfloat16), 4, (32, 32), CPU)
    assert half.noise.weights * 2 == needs.noise.weights

    narrow = needs_of(empty(torch.float16), 4, (32, 32), CPU)  # decodes in float32 all the same
    assert narrow.picture.work > half.picture.work

    int8 = needs_of(empty(torch.float32), 4, (32, 32), CPU, "int8")
    nf4 = needs_of(empty(torch.float32), 4, (32, 32), CPU, "nf4")
    assert nf4.noise.weights < int8.noise.weights < needs.noise.weights
    assert int8.picture == needs.picture


def test_the_first_that_fits_is_taken_and_said(empty, needs):
    takes = {mode: needs.of(mode) for mode in MODES}
    assert takes[OFFLOAD] < takes[ROOMS] < takes[RESIDENT]

    for mode in MODES:
        chosen = first_that_fits(asking(), DeviceRoom(takes[mode], shared=False), empty)
        assert chosen.mode == mode
        (note,) = chosen.notes
        assert note.startswith(f"memory: {mode}, takes ")


def test_what_fits_in_no_way_is_refused_with_the_smallest_change_that_fits(empty, needs):
    room = DeviceRoom(needs.of(OFFLOAD) - 1, shared=False)

    with pytest.raises(ModelError) as refused:
        first_that_fits(asking(), room, empty)

    line = str(refused.value)
    assert "model shapes as float32 at 32x32 with 4 lanes needs" in line
    assert "(--memory offload), cpu has" in line
    assert line.count("\n") == 0
    assert "use --dtype bfloat16 (" in line


def test_a_smaller_picture_is_named_where_numbers_are_small_already(empty):
    small = needs_of(empty(torch.bfloat16), 2, (16, 16), CPU, "int8").of(OFFLOAD)
    with pytest.raises(ModelError, match=r"use --size 16x16 --batch-size 2 \("):
        first_that_fits(
            asking(dtype="bfloat16", quantize="int8"), DeviceRoom(small, shared=False), empty
        )
    with pytest.raises(ModelError, match="nothing smaller fits"):
        first_that_fits(asking(), DeviceRoom(1, shared=False), empty)


def test_a_host_moves_nothing_about_for_it_holds_all_weights_anyway(empty, needs):
    enough = DeviceRoom(needs.of(RESIDENT), shared=True)
    assert first_that_fits(asking(), enough, empty).mode == RESIDENT
    assert first_that_fits(asking(), enough, empty).notes == ()

    with pytest.raises(ModelError, match="GB at the least, cpu has"):
        first_that_fits(asking(), DeviceRoom(needs.of(ROOMS), shared=True), empty)


def test_offloading_needs_the_largest_layers_and_the_work(needs):
    big = RoomNeed(weights=1000, work=100, leaf=10)
    text = RoomNeed(weights=2000, work=4, leaf=50)
    picture = RoomNeed(weights=20, work=80, leaf=5)

    found = Needs(text, big, picture)

    assert found.of(ROOMS) == 2005
    assert found.of(OFFLOAD) == 155  # the text encoder's three largest layers, and its work
    assert found.of(RESIDENT) > 3020 + 125


def test_auto_takes_rooms_on_a_device_that_has_no_room_for_all(shapes, needs, monkeypatch):
    room = DeviceRoom(needs.of(ROOMS) + 1000, shared=False)
    for module in (memory_choice, holding):
        monkeypatch.setattr(module, "device_room", lambda _: room)
    spec = RenderSpec("shapes", shapes.path, shapes.revision, "auto", {"32x32": 4}, 1)

    renderer = load_renderer(spec, [(32, 32)])

    assert renderer.residence.phased
    assert any(note.startswith("memory: rooms, takes") for note in renderer.notes)


def test_auto_holds_everything_on_a_host_without_a_word(renderer):
    assert not renderer.residence.phased
    assert not [note for note in renderer.notes if note.startswith("memory")]


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_what_is_said_before_a_download_is_what_is_counted_after_it(name):
    architecture = find_architecture(name)
    rooms = make_rooms(architecture, torch.device("meta"), torch.bfloat16)
    size = (architecture.defaults.width, architecture.defaults.height)
    needs = needs_of(rooms, FEWEST_LANES, size, torch.device("cuda"))

    for card_gb in CARDS_GB:
        free = card_gb * 2**30 - DRIVER_GB * GB
        counted = next((mode for mode in MODES if needs.of(mode) <= free), "no fit")
        assert counted == memory_mode(SHORT[name], card_gb), card_gb


def test_what_is_quantized_is_loaded_on_the_host_for_it_was_larger_before(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(holding, "device_room", lambda _: DeviceRoom(1, shared=False))

    assert holding.loaded_on(RESIDENT, cuda) == cuda
    assert holding.loaded_on(RESIDENT, cuda, "int8") == CPU
    assert holding.loaded_on(ROOMS, cuda) == CPU


def test_a_resident_model_reaches_its_device_wherever_it_was_loaded(empty):
    meta = torch.device("meta")
    rooms = _empty("shapes", Path(find_model("shapes").path), torch.float32)
    spec = RenderSpec("shapes", "", "", "auto", {}, 1, quantize="int8")

    rooms.components["unit"] = torch.nn.Linear(2, 2)
    holding.hold(RESIDENT, rooms, meta, Counters(), spec)

    assert rooms.components["unit"].weight.device == meta
