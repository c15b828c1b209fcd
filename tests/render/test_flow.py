"""Running out of memory over pixels is no row's fault."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdbatch.errors import DeviceMemoryError
from sdbatch.model_specs import RenderSpec
from sdbatch.render import flow
from sdbatch.render.loading import load_renderer
from sdbatch.render.waiting import LOOK_AHEAD
from tests.render.drawing import make_row, pictures

pytestmark = pytest.mark.render


@pytest.fixture
def short_of_memory(renderer, monkeypatch):
    """`times` decodes run out of memory; gives what happened, in order."""

    def set_up(times, chunk):
        real, happened = renderer.image_decoder.decode, []

        def decode(latents):
            happened.append(len(latents))
            if happened.count("freed") < times:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(latents)

        monkeypatch.setattr(renderer, "out_of_memory", 0)
        monkeypatch.setattr(renderer.image_decoder, "decode", decode)
        monkeypatch.setattr(renderer.image_decoder, "chunk_size", lambda latents: chunk)
        monkeypatch.setattr(flow, "free_memory", lambda: happened.append("freed"))
        return happened

    return set_up


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_chunk_goes_once_more_when_memory_was_given_back(renderer, short_of_memory, chunk):
    rows = [make_row(i) for i in range(4)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(renderer.image_decoder, "chunk_size", lambda latents: chunk)
        wanted = pictures(renderer.render(rows))
    happened = short_of_memory(1, chunk)

    drawn = pictures(renderer.render(rows))

    assert happened[:3] == [chunk, "freed", chunk]
    assert all(np.array_equal(drawn[index], wanted[index]) for index in wanted)


def test_the_second_time_is_the_last(renderer, short_of_memory):
    short_of_memory(2, 1)

    with pytest.raises(DeviceMemoryError, match="smaller --batch-size"):
        list(renderer.render([make_row(i) for i in range(4)]))


def test_a_renderer_that_leaves_begins_no_row_that_it_has_only_looked_at(shapes):
    renderer = load_renderer(
        RenderSpec("shapes", shapes.path, shapes.revision, "auto", {"32x32": 2}, 1), []
    )
    pulled = []

    def feed():
        for index in range(60):
            pulled.append(index)
            yield make_row(index)

    drawn = []
    for result in renderer.render(feed()):
        drawn.append(result.row.row_index)
        renderer.leave()

    assert len(pulled) >= LOOK_AHEAD  # so many were in sight, of which one was in the lanes
    assert len(drawn) < LOOK_AHEAD  # one chunk that had been denoised, and the row in the lanes
