"""What is set on torch and on the allocator under it."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from sdbatch.render import device as device_module
from sdbatch.render.device import keep_freed_memory
from sdbatch.render.lane_inputs import LaneInputs

pytestmark = pytest.mark.render

PASSES = 5


def test_a_pass_takes_again_the_memory_that_the_last_one_freed(load):
    """Two thousand pages a pass are what glibc gives back and takes anew by itself."""
    renderer = load(p64x64=16)
    _, unet, _ = renderer.rooms
    embeds = renderer.text_encoder.encode([""])[0].embeds.expand(16, -1, -1)
    inputs = LaneInputs(torch.zeros(16, 4, 16, 16), torch.zeros(16), embeds)
    with torch.inference_mode():
        for _ in range(3):
            unet.predict(inputs)
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(PASSES):
            unet.predict(inputs)
    pages = (resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before) / PASSES

    assert pages < 400 or platform.libc_ver()[0] != "glibc"


def test_another_c_library_is_left_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(device_module.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(device_module.ctypes, "CDLL", asked.append)

    keep_freed_memory()

    assert asked == []
