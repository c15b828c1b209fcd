"""Arithmetic is counted, and the device's peak is measured."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sdbatch.render.architecture import find_architecture
from sdbatch.render.flops import matmul_peak, pass_flops
from sdbatch.render.random_model import make_modules

META = torch.device("meta")


def test_a_lane_of_stable_diffusion_takes_about_800_gflop_a_pass():
    modules = make_modules(find_architecture("sd15"), META, torch.float32)

    assert pass_flops(modules, 1, (64, 64), (77, 768)) == pytest.approx(803e9, rel=0.01)


def test_the_count_is_that_of_a_real_pass_and_grows_with_the_lanes():
    architecture = find_architecture("shapes")
    real = make_modules(architecture, torch.device("cpu"), torch.float32)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        real.unet(torch.zeros(2, 4, 8, 8), torch.zeros(2), torch.zeros(2, 32, 128))
    meta = make_modules(architecture, META, torch.float32)
    counted = pass_flops(meta, 2, (8, 8), (32, 128))

    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert pass_flops(meta, 6, (8, 8), (32, 128)) == pytest.approx(3 * counted, rel=1e-6)


def test_the_peak_is_measured_in_the_format_that_is_asked_for():
    for dtype in (torch.float32, torch.bfloat16):
        peak = matmul_peak(torch.device("cpu"), dtype, seconds=0.05)

        assert peak.side == 1024
        assert peak.flops_per_s > 1e8
