"""Pictures come out of a pipeline in many forms, and all end as one."""

import numpy as np
import pytest
import torch
from PIL import Image

from sdbatch.errors import InputError
from sdbatch.render.pipelines.pipeline_call import PipelineCall, _as_tensor, alike_of
from tests.render.drawing import make_row

PICTURES = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
LAST = PICTURES.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("form", [PICTURES, list(PICTURES), LAST, PICTURES.double()])
def test_tensors_and_arrays_keep_their_numbers(form):
    assert torch.equal(_as_tensor(form), PICTURES)


def test_finished_images_lie_between_0_and_1():
    images = [Image.fromarray((one * 255).round().astype(np.uint8)) for one in LAST]
    assert (_as_tensor(images) - PICTURES).abs().max() < 0.51 / 255


@pytest.mark.parametrize("grey", [LAST[..., :1], LAST[..., 0]])
def test_grey_pictures_have_three_equal_channels(grey):
    found = _as_tensor(grey)
    assert found.shape == (2, 3, 4, 5)
    assert torch.equal(found[:, 2], PICTURES[:, 0])


def test_what_is_no_picture_is_refused():
    with pytest.raises(InputError, match="gives str, no pictures"):
        _as_tensor("text")


class Told:
    """A pipeline that keeps what it was told."""

    def __init__(self, side=8):
        self.side, self.told = side, {}

    def __call__(self, **told):
        self.told = told
        prompts = told["prompt"] if isinstance(told["prompt"], list) else [told["prompt"]]
        return (torch.zeros(len(prompts), 3, self.side, self.side),)


TEXT = {
    "way": "text",
    "takes": ["prompt", "height", "width", "num_inference_steps", "use_resolution_binning"],
    "defaults": {},
}


def test_a_call_is_told_what_it_takes_and_nothing_else():
    pipe = Told()
    row = make_row(negative_prompt="blurred", width_px=8, height_px=8, true_cfg_scale=2.0)
    PipelineCall(pipe, TEXT).draw([row, row])
    assert pipe.told.keys() == {*TEXT["takes"], "generator", "output_type"}
    assert pipe.told["use_resolution_binning"] is False
    assert [one.initial_seed() for one in pipe.told["generator"]] == [row.seed] * 2


def test_a_row_alone_is_given_as_a_single_prompt():
    pipe = Told()
    PipelineCall(pipe, TEXT).draw([make_row(width_px=8, height_px=8)])
    assert isinstance(pipe.told["prompt"], str)
    assert isinstance(pipe.told["generator"], torch.Generator)


def test_guidance_without_a_number_of_its_own_is_left_to_the_pipeline():
    pipe = Told()
    fact = TEXT | {"takes": [*TEXT["takes"], "guidance_scale"]}
    PipelineCall(pipe, fact).draw([make_row(width_px=8, height_px=8)])
    assert "guidance_scale" not in pipe.told


def test_a_picture_of_another_size_is_not_taken_for_the_row_s():
    with pytest.raises(ValueError, match="drew 1 pictures of 16x16, not 1 of 8x8"):
        PipelineCall(Told(16), TEXT).draw([make_row(width_px=8, height_px=8)])


def test_seed_and_words_do_not_set_rows_apart():
    assert alike_of(make_row(0)) == alike_of(make_row(1))
    assert alike_of(make_row(0, negative_prompt="a")) == alike_of(make_row(1, negative_prompt="b"))
