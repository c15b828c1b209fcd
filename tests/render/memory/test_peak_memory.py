"""The most memory that was held while somebody watched."""

import time

import torch

from sdbatch.render.memory.peak_memory import LOOK_EVERY_S, MemoryWatch

SIZE_BYTES = 256 * 2**20


def test_a_watch_sees_memory_that_was_given_back_before_it_ended():
    with MemoryWatch(torch.device("cpu")) as watch:
        held = torch.ones(SIZE_BYTES, dtype=torch.uint8)
        time.sleep(5 * LOOK_EVERY_S)
        del held

    assert watch.peak_bytes > 0.9 * SIZE_BYTES


def test_what_was_held_before_does_not_count():
    held = torch.ones(SIZE_BYTES, dtype=torch.uint8)
    with MemoryWatch(torch.device("cpu")) as watch:
        time.sleep(2 * LOOK_EVERY_S)

    assert held.nbytes == SIZE_BYTES
    assert watch.peak_bytes < 0.5 * SIZE_BYTES
