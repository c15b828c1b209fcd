"""Arithmetic is counted, and the device's peak is measured."""

import time
from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sdbatch.model_specs import Speed
from sdbatch.render import flops
from sdbatch.render.architecture import find_architecture
from sdbatch.render.flops import (
    Peak,
    _watched,
    heaviest_layers,
    measured_peak,
    pass_flops,
    run_pass,
)
from sdbatch.render.random_model import make_rooms
from sdbatch.render.speed import apply_switches

META = torch.device("meta")


def test_a_lane_of_stable_diffusion_takes_about_800_gflop_a_pass():
    rooms = make_rooms(find_architecture("sd15"), META, torch.float32)

    assert pass_flops(rooms, 1, (64, 64)) == pytest.approx(803e9, rel=0.01)


def test_the_count_is_that_of_a_real_pass_and_grows_with_the_lanes():
    architecture = find_architecture("shapes")
    real = make_rooms(architecture, torch.device("cpu"), torch.float32)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        real.denoiser(torch.zeros(2, 4, 8, 8), torch.zeros(2), torch.zeros(2, 32, 128))
    meta = make_rooms(architecture, META, torch.float32)
    counted = pass_flops(meta, 2, (8, 8))

    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert pass_flops(meta, 6, (8, 8)) == pytest.approx(3 * counted, rel=1e-6)


def shapes_layers(lanes=8):
    rooms = make_rooms(find_architecture("shapes"), META, torch.float32)
    return rooms, heaviest_layers(rooms, lanes, (16, 16))


def test_the_heaviest_layers_do_most_of_a_pass_arithmetic():
    rooms, layers = shapes_layers()
    calls = Counter()
    with torch.inference_mode(), _watched(rooms.denoiser, calls):
        run_pass(rooms, 8, (16, 16))
    counted = pass_flops(rooms, 8, (16, 16))

    assert sum(calls.values()) == pytest.approx(counted, rel=0.1)  # the rest is attention
    assert sum(calls[layer] for layer in layers) > 0.5 * counted
    assert [calls[layer] for layer in layers] == sorted(map(calls.get, layers), reverse=True)


def test_the_peak_is_measured_in_the_format_that_is_asked_for():
    for dtype in (torch.float32, torch.bfloat16):
        peak = measured_peak(torch.device("cpu"), dtype, [], seconds=0.05)

        assert peak.what == "products of 1024x1024 matrices"
        assert peak.flops_per_s > 1e8


def test_the_peak_is_that_of_the_fastest_of_all_that_is_timed(monkeypatch):
    _, layers = shapes_layers()
    monkeypatch.setattr(flops, "_timed", lambda run, device: 1.0)
    peak = measured_peak(torch.device("cpu"), torch.float32, layers, seconds=0.0)
    heavy = max(layers, key=lambda layer: layer.flops)

    assert peak.flops_per_s == max(2 * 1024**3, heavy.flops)
    huge = heavy._replace(flops=10**12)
    assert measured_peak(torch.device("cpu"), torch.float32, [huge], 0.0) == Peak(1e12, str(huge))


def test_a_pass_stays_below_the_peak_of_its_own_layers():
    cpu, architecture = torch.device("cpu"), find_architecture("shapes")
    _, layers = shapes_layers()
    real = make_rooms(architecture, cpu, torch.float32)
    apply_switches(Speed(), real.denoiser, real.vae, "shapes")
    inputs = torch.zeros(8, 4, 16, 16), torch.zeros(8), torch.zeros(8, 32, 128)
    seconds = []
    with torch.inference_mode():
        for _ in range(4):
            started = time.perf_counter()
            real.denoiser(*inputs)
            seconds.append(time.perf_counter() - started)
        peak = measured_peak(cpu, torch.float32, layers, seconds=0.5)
    meta = make_rooms(architecture, META, torch.float32)

    assert pass_flops(meta, 8, (16, 16)) / min(seconds) < peak.flops_per_s
