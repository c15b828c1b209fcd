"""Bytes counted beforehand, and refusals that name what would fit."""

import pytest
import torch

from sdbatch.errors import InputError
from sdbatch.render.architecture import find_architecture
from sdbatch.render.memory import counted_bytes
from sdbatch.render.memory import memory_need as room
from sdbatch.render.memory.memory_need import MemoryNeed, check_fits, free_bytes, memory_need
from sdbatch.render.random_model import make_rooms

CPU, META = torch.device("cpu"), torch.device("meta")
GB = 1e9


def need_of(name, dtype=torch.float32, lanes=2):
    architecture = find_architecture(name)
    size = (architecture.defaults.width, architecture.defaults.height)
    return memory_need(make_rooms(architecture, META, dtype), lanes, size)


def test_only_tensors_that_live_at_once_are_added_up():
    def chain():
        value = torch.empty(1000, device="meta")
        for _ in range(5):
            value = value + 1
        return value.view(10, 100)

    assert room.fullest(chain) == 2 * 4000


def test_attention_is_counted_without_its_matrix_of_scores():
    def attend():
        query = torch.empty(1, 1, 4096, 8, device="meta")
        return torch.nn.functional.scaled_dot_product_attention(query, query, query)

    assert room.fullest(attend) == 2 * 4096 * 8 * 4


def test_stable_diffusion_takes_its_weights_and_the_fuller_of_pass_and_decode():
    need = need_of("sd15")

    assert need.weights == 4 * 1_066_235_307
    assert need.decode > 4 * 3 * 512 * 512 * 128 * 4
    assert need.total > need.weights + max(need.denoise, need.decode)


def test_half_the_bits_take_half_the_bytes():
    whole, half = need_of("sd15"), need_of("sd15", torch.bfloat16)

    assert half.weights * 2 == whole.weights
    assert half.decode * 2 == pytest.approx(whole.decode, rel=0.01)


def test_more_lanes_take_more_memory():
    assert need_of("shapes", lanes=8).denoise > 3 * need_of("shapes", lanes=2).denoise


def test_what_does_not_fit_is_refused_with_what_does(monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda device: int(6 * GB))
    sd15 = find_architecture("sd15")

    with pytest.raises(InputError) as caught:
        check_fits(sd15, need_of("sd15"), "float32", 2, (512, 512), CPU)

    said = str(caught.value)
    assert "\n" not in said
    assert "sd15 as float32 with 2 lanes at 512x512 needs 8." in said
    assert "this host has 6.0 GB free" in said
    assert "--dtype bfloat16 (4." in said
    assert "--arch shapes --random-weights (0." in said


def test_where_nothing_fits_that_is_said(monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda device: 1)

    with pytest.raises(InputError, match="nothing smaller fits"):
        check_fits(find_architecture("sd15"), need_of("sd15"), "float32", 2, (512, 512), CPU)


def test_what_fits_is_not_refused():
    check_fits(find_architecture("shapes"), MemoryNeed(1, 1, 1), "float32", 2, (64, 64), CPU)


def test_a_container_has_no_more_than_its_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(counted_bytes, "CGROUP", tmp_path)
    unlimited = free_bytes(CPU)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")

    assert free_bytes(CPU) == 600_000
    assert unlimited > 600_000
