"""Inner layers run in one step of N: what a row gets, and that neighbours never decide it."""

from __future__ import annotations

import random
from statistics import mean

import numpy as np
import pytest
import torch

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec, Speed
from sdbatch.render.deep_cache import CachedLanes, CachedUnet, cache_deeply
from sdbatch.render.denoiser import Lanes
from sdbatch.render.families.sd import SdUnet
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.loading import load_renderer
from tests.render.drawing import latents_of, make_row, pictures, relative_error

pytestmark = pytest.mark.render

SCHEDULERS = (
    "DDIMScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
)


def mixed_rows(count):
    return [
        make_row(
            i,
            num_inference_steps=4 + i % 5,
            guidance_scale=(1.0, 3.0, 7.5)[i % 3],
            scheduler=SCHEDULERS[i % 4],
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def load_cached(shapes):
    def load(every, lanes=4):
        speed = Speed(lossy=f"deepcache:{every}")
        spec = RenderSpec(
            "shapes", shapes.path, shapes.revision, "auto", {"32x32": lanes}, 1, speed
        )
        return load_renderer(spec, [])

    return load


@pytest.fixture(scope="module")
def cached(load_cached):
    return load_cached(3)


class Watched(torch.nn.Module):
    """Counts calls of the block it stands for."""

    def __init__(self, block):
        super().__init__()
        self.block, self.calls = block, 0
        self.resnets, self.has_cross_attention = block.resnets, block.has_cross_attention

    def forward(self, *args, **kwargs):
        self.calls += 1
        return self.block(*args, **kwargs)


def test_pixels_are_the_same_whatever_the_neighbours_order_and_lanes_in_flight(cached):
    rows = mixed_rows(13)
    wanted = pictures(cached.render(rows))
    shuffle = random.Random(3)

    for count in (13, 7, 3, 1, 1):
        some = shuffle.sample(rows, count)
        drawn = pictures(cached.render(some))
        assert all(np.array_equal(drawn[index], wanted[index]) for index in drawn)


def test_one_step_of_n_is_whole_and_the_others_are_not(load_cached):
    renderer = load_cached(3)
    _, model, _ = renderer.rooms
    model.unet.mid_block = watched = Watched(model.unet.mid_block)

    pictures(renderer.render([make_row(0, num_inference_steps=8)]))

    assert watched.calls == 3  # steps 0, 3 and 6


def test_a_row_as_short_as_its_first_step_is_drawn_as_without_the_switch(cached, renderer):
    row = make_row(0, num_inference_steps=1)

    assert torch.equal(latents_of(cached, [row], 4)[0], latents_of(renderer, [row], 4)[0])


def test_kept_features_stand_in_for_the_inner_layers(cached, renderer):
    row = make_row(0)
    item = renderer.prepare(row, [])
    embeds = item.conditional.expand(4, -1, -1)
    inputs = LaneInputs(torch.randn(4, 4, 8, 8), torch.full((4,), 500.0), embeds)
    _, model, _ = cached.rooms
    with torch.inference_mode():
        whole, features = model.predict_and_keep(inputs)
        outer = model.predict_outer(inputs, features)
        other = model.predict_outer(inputs, torch.zeros_like(features))

    assert torch.equal(whole, outer)
    assert relative_error(other, whole) > 1e-3


def test_latents_stay_near_those_of_the_whole_model(cached, renderer):
    """How near depends on the weights: much nearer than to what another seed would give."""
    rows = [make_row(i, num_inference_steps=20) for i in range(3)]

    near, exact = latents_of(cached, rows, 4), latents_of(renderer, rows, 4)

    errors = {index: float((near[index] - whole).norm()) for index, whole in exact.items()}
    apart = {i: [float((exact[j] - exact[i]).norm()) for j in exact if j != i] for i in exact}
    assert all(0 < errors[index] < min(apart[index]) for index in exact)
    assert mean(errors.values()) < mean(mean(others) for others in apart.values()) / 3


def test_passes_are_full_although_they_are_of_two_kinds(load_cached):
    renderer = load_cached(3)

    pictures(renderer.render([make_row(i, num_inference_steps=9) for i in range(40)]))

    counters = renderer.counters
    assert counters.lane_steps == 40 * 9 * 2
    assert counters.lane_steps / counters.lane_slots > 0.95


def test_evicted_rows_leave_nothing_behind(cached):
    rows = mixed_rows(5)
    wanted = latents_of(cached, rows, 4)
    room = cached.make_lanes(cached.prepare(rows[0], []), 4)
    for row in rows[:3]:
        room.admit(cached.prepare(row, []))
    for _ in range(2):
        room.run_pass()

    evicted = [item.row.row_index for item in room.evict()]
    room.admit(cached.prepare(rows[4], []))
    done = []
    while not done:
        done = room.run_pass()

    assert evicted == [0, 1, 2]
    assert room.busy_lanes == 0
    assert torch.equal(done[0].latents, wanted[4])


def test_schedulers_without_a_table_run_the_whole_model(cached, renderer):
    row = make_row(0, scheduler_config='{"clip_sample": true}', num_inference_steps=5)

    drawn, plain = (pictures(each.render([row]))[0] for each in (cached, renderer))

    assert np.array_equal(drawn, plain)


def test_only_a_cached_model_gets_two_kinds_of_passes(cached, renderer):
    item = renderer.prepare(make_row(0), [])

    assert isinstance(cached.make_lanes(item, 4), CachedLanes)
    assert type(renderer.make_lanes(item, 4)) is Lanes
    assert isinstance(cached.rooms[1], CachedUnet | SdUnet)


def test_a_unet_of_one_resolution_cannot_be_cut(renderer):
    _, model, _ = renderer.rooms

    class Flat:
        down_blocks, up_blocks = model.unet.down_blocks[:1], model.unet.up_blocks[:1]
        dtype = torch.float32

    with pytest.raises(ModelError, match=r"render\.lossy: deepcache: its UNet has one resolution"):
        cache_deeply(SdUnet(Flat()), 3, "flat")


def test_where_a_picture_comes_from_names_the_switch(cached):
    assert "deepcache:3" in cached.env.kernels
