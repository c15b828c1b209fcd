"""On a CPU the number of lanes is a rule of the latents' size; on a GPU it is tried out."""

from __future__ import annotations

import weakref

import pytest
import torch

from sdbatch.errors import DeviceMemoryError
from sdbatch.render import lane_count
from sdbatch.render.lane_count import (
    MAX_GPU_LANES,
    USABLE,
    cpu_lanes,
    gpu_lanes,
    largest_fitting,
    run_trial,
)


@pytest.mark.parametrize(
    ("cells", "lanes"), [((8, 8), 16), ((16, 16), 16), ((32, 32), 4), ((64, 64), 2), ((128, 96), 2)]
)
def test_lanes_fall_with_the_size_and_hold_a_guided_row(cells, lanes):
    assert cpu_lanes(cells) == lanes


@pytest.mark.parametrize(
    ("room", "lanes"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 4), (33, 32), (10_000, MAX_GPU_LANES)]
)
def test_the_largest_power_of_two_that_fits_is_taken(room, lanes):
    assert largest_fitting(lambda count: count <= room) == lanes


def test_nothing_twice_too_large_is_tried():
    tried = []

    largest_fitting(lambda count: tried.append(count) or count <= 8)

    assert tried == [2, 4, 8, 16]


class Card:
    """A GPU on paper: memory is what trials say they take."""

    def __init__(self, monkeypatch, total, weights):
        self.total, self.weights, self.peak, self.tried = total, weights, weights, []
        self.holding = None
        for name, value in {
            "mem_get_info": lambda _: (total - weights, total),
            "memory_allocated": lambda _: weights,
            "memory_reserved": lambda _: weights,
            "reset_peak_memory_stats": lambda _: setattr(self, "peak", weights),
            "max_memory_allocated": lambda _: self.peak,
            "synchronize": lambda _: None,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(lane_count, "free_memory", self.free)

    def free(self):
        assert self.holding is None, "an error still holds its tensors"

    def trial(self, per_lane, decode):
        def run(lanes):
            self.tried.append(lanes)
            wanted = self.weights + max(per_lane * lanes, decode)
            if wanted > self.total:
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.peak = wanted

        return run


@pytest.mark.parametrize(
    ("per_lane", "decode", "lanes"),
    [(1.0, 0, 64), (10.0, 0, 8), (40.0, 0, 2), (60.0, 0, 1), (1.0, 84.0, 64), (10.0, 84.0, 8)],
)
def test_a_pass_and_a_decode_must_fit_beside_the_weights(monkeypatch, per_lane, decode, lanes):
    card = Card(monkeypatch, total=150.0, weights=50.0)

    assert gpu_lanes(card.trial(per_lane, decode), torch.device("cuda")) == lanes
    assert lanes * per_lane <= USABLE * 100


def test_a_decode_that_never_fits_is_refused_before_the_run(monkeypatch):
    card = Card(monkeypatch, total=150.0, weights=50.0)

    with pytest.raises(DeviceMemoryError, match="one lane and the decoder"):
        gpu_lanes(card.trial(1.0, 120.0), torch.device("cuda"))
    assert card.tried == [2, 1]


def test_an_error_that_is_not_about_memory_is_not_taken_for_it(monkeypatch):
    Card(monkeypatch, total=150.0, weights=50.0)

    def broken(_):
        raise RuntimeError("illegal instruction")

    with pytest.raises(RuntimeError, match="illegal instruction"):
        gpu_lanes(broken, torch.device("cuda"))


def test_memory_is_given_back_when_no_traceback_holds_it_any_more(monkeypatch):
    card = Card(monkeypatch, total=150.0, weights=50.0)

    def hungry(lanes):
        tensor = torch.zeros(1)
        card.holding = weakref.ref(tensor, lambda _: setattr(card, "holding", None))
        raise torch.OutOfMemoryError(f"CUDA out of memory with {lanes} lanes")

    with pytest.raises(DeviceMemoryError):
        gpu_lanes(hungry, torch.device("cuda"))


@pytest.mark.render
def test_a_trial_runs_a_full_pass_and_a_full_decode(renderer, monkeypatch):
    _, model, decoder = renderer.rooms
    seen = []

    class Watched:
        channels, device = model.channels, model.device
        num_numbers, row_numbers = model.num_numbers, model.row_numbers

        def predict(self, inputs):
            seen.append(tuple(inputs.latents.shape))
            return model.predict(inputs)

    class Decoder:
        scale = decoder.scale

        def decode(self, latents):
            seen.append(tuple(latents.shape))
            return decoder.decode(latents)

    embeds = tuple(renderer.text_encoder.encode([""])[0].embeds.shape)
    run_trial(Watched(), Decoder(), (8, 8), embeds, 6)

    assert seen == [(6, 4, 8, 8), (8, 4, 8, 8)]
