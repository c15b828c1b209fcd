"""Speed switches: what each does to pixels, and what is refused where it cannot be had."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil

import diffusers
import numpy as np
import pytest
import torch

from sdbatch import api
from sdbatch.errors import ModelError, PlanChangedError, RenderError
from sdbatch.model_specs import RenderSpec, Speed
from sdbatch.render import speed as speed_module
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.loading import load_renderer
from sdbatch.render.pointwise import PointwiseLinear
from sdbatch.render.speed import KERNELS, find_compiler
from tests.render.drawing import make_row, pictures

pytestmark = pytest.mark.render

SCHEDULERS = ("DDIMScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler")
CLOSE = (
    Speed(channels_last=False),
    Speed(channels_last=True),
    Speed(fuse_qkv=True),
    Speed(attention="math"),
    Speed(attention="flash"),
    Speed(attention="sdpa"),
    Speed(channels_last=True, fuse_qkv=True, attention="math"),
)

ABSENT = ("flash", "cudnn") if torch.cuda.is_available() else ("efficient", "cudnn")
"""Attention kernels that this device has none of for float32."""


def mixed_rows(count):
    return [
        make_row(
            i,
            num_inference_steps=2 + i % 3,
            guidance_scale=(1.0, 3.0, 7.5)[i % 3],
            scheduler=SCHEDULERS[i // 2 % 3],
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def load_with(shapes):
    def load(switches, path=shapes.path, revision=shapes.revision, sizes=((32, 32),), dtype="auto"):
        spec = RenderSpec("shapes", str(path), revision, dtype, {"32x32": 4}, 1, switches)
        return load_renderer(spec, sizes)

    return load


@pytest.fixture(scope="module")
def small(shapes, tmp_path_factory):
    """A folder with the embedded model, but a denoiser of one small block: quick to compile."""
    folder = tmp_path_factory.mktemp("small") / "small"
    shutil.copytree(shapes.path, folder)
    config = json.loads((folder / "unet/config.json").read_text())
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        cross_attention_dim=config["cross_attention_dim"],
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        mid_block_type=None,
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
    )
    unet.save_pretrained(folder / "unet")
    return folder


@pytest.fixture(scope="module")
def compiled(load_with, small):
    return load_with(Speed(compile=True), small, "")


def neighbours_change_nothing(renderer, rows):
    wanted = pictures(renderer.render(rows))
    some = random.Random(2).sample(rows, 3)
    for chosen in (some, some[:1], rows[::-1]):
        drawn = pictures(renderer.render(chosen))
        assert all(np.array_equal(drawn[index], wanted[index]) for index in drawn)
    return wanted


@pytest.mark.parametrize("switches", CLOSE, ids=str)
def test_a_switch_moves_pixels_by_one_level_at_most_and_keeps_rows_apart(
    switches, load_with, renderer
):
    rows = mixed_rows(7)
    plain = pictures(renderer.render(rows))

    fast = neighbours_change_nothing(load_with(switches), rows)

    for index, pixels in plain.items():
        assert np.abs(pixels.astype(int) - fast[index].astype(int)).max() <= 1


def test_switches_reach_the_model(load_with):
    _, unet, vae = load_with(Speed(channels_last=True, fuse_qkv=True)).rooms
    layers = [part for part in unet.unet.modules() if hasattr(part, "to_qkv")]
    convolution = next(m for m in unet.unet.modules() if isinstance(m, torch.nn.Conv2d))

    assert layers
    assert not any(weight.requires_grad for weight in unet.unet.parameters())
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert vae.vae.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("asked", [True, False, "auto"])
def test_auto_lays_weights_out_with_channels_last_where_a_cpu_computes(asked, load_with):
    renderer = load_with(Speed(channels_last=asked))
    on_cpu = renderer.env.device == "cpu"
    wanted = on_cpu if asked == "auto" else asked
    _, unet, vae = renderer.rooms

    for part in (unet.unet, vae.vae):
        strides = part.conv_in.weight if hasattr(part, "conv_in") else part.decoder.conv_in.weight
        assert (not strides.is_contiguous()) is wanted
    layers = {type(m) for m in unet.unet.modules() if isinstance(m, torch.nn.Linear)}
    assert (PointwiseLinear in layers) is (wanted and on_cpu)
    assert ("channels last" in renderer.env.kernels) is wanted


def test_eight_bit_weights_come_near_and_keep_rows_apart(load_with, renderer):
    rows = mixed_rows(7)
    plain = pictures(renderer.render(rows))
    small_weights = load_with(Speed(lossy="fp8"))

    drawn = neighbours_change_nothing(small_weights, rows)

    weights = [w for w in small_weights.rooms[1].unet.parameters() if w.ndim > 1]
    stored = sum(w.numel() for w in weights if w.dtype == torch.float8_e4m3fn)
    assert stored > 0.9 * sum(w.numel() for w in weights)
    assert any(not np.array_equal(drawn[index], plain[index]) for index in plain)
    for index, pixels in plain.items():
        assert np.abs(pixels.astype(float) - drawn[index]).mean() < 8
    assert "fp8" in small_weights.env.kernels


def test_a_lossy_run_says_so_in_its_plan_and_in_every_row(tmp_path):
    options = {"engine": "inline", "size": "32x32", "batch_size": 4, "num_inference_steps": 4}
    out = tmp_path / "out"
    rows = [{"prompt": "a red circle", "seed": i} for i in range(3)]
    lossy = {"settings": ["render.lossy=fp8,deepcache:2"]}

    api.render(rows, out, **lossy, **options)

    table = api.open_dataset(out).to_table(["render_env"])
    assert all("deepcache:2,fp8" in text.as_py() for text in table["render_env"])
    with pytest.raises(PlanChangedError, match=r"render\.lossy"):
        api.render(rows, out, settings=["render.lossy=fp8"], **options)


def test_without_switches_a_model_is_left_as_it_is(renderer):
    _, unet, _ = renderer.rooms
    blocks = [m for m in unet.unet.modules() if type(m).__name__ == "BasicTransformerBlock"]

    assert blocks
    assert all(block._compiled_call_impl is None for block in blocks)
    assert not any(hasattr(part, "to_qkv") for part in unet.unet.modules())


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_set_one_way_or_the_other(allowed, load_with):
    load_with(Speed(tf32=not allowed))
    load_with(Speed(tf32=allowed))

    assert torch.backends.cuda.matmul.allow_tf32 is allowed
    assert torch.backends.cudnn.allow_tf32 is allowed
    load_with(Speed())


def test_a_switch_that_changes_nothing_here_is_said(load_with):
    notes = load_with(Speed(tf32=True)).notes
    load_with(Speed())

    device, dtype = ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
    assert f"render.tf32 changes nothing on {device} in {dtype}" in notes


@pytest.mark.parametrize("name", ABSENT)
def test_an_attention_kernel_that_is_not_here_is_refused_before_any_row(name, load_with):
    with pytest.raises(ModelError, match=f"render.attention: {name}: no such kernel.*use auto"):
        load_with(Speed(attention=name), dtype="float32")


def test_a_kernel_that_disappears_is_no_rows_fault(load_with):
    renderer = load_with(Speed(attention="math"))
    _, unet, _ = renderer.rooms

    def unet_without(*_, **__):
        raise RuntimeError("No available kernel. Aborting execution.")

    object.__setattr__(unet, "unet", _Like(unet.unet, unet_without))
    with pytest.raises(RenderError, match=r"render\.attention: math"):
        list(renderer.render([make_row(0)]))


class _Like:
    """Something else in the place of a model."""

    def __init__(self, model, call):
        self.config, self.device, self.dtype = model.config, model.device, model.dtype
        self._call = call

    def __call__(self, *args, **kwargs):
        return self._call(*args, **kwargs)


def test_every_named_kernel_is_one_of_torch():
    assert set(KERNELS) == {"math", "flash", "efficient", "cudnn"}


def test_no_compiler_is_said_in_one_line(load_with, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)

    with pytest.raises(ModelError, match=r"^render.compile: no C\+\+ compiler") as caught:
        load_with(Speed(compile=True))
    assert "\n" not in str(caught.value)


def test_no_triton_is_said_in_one_line(monkeypatch):
    def missing(name):
        raise speed_module.PackageNotFoundError(name)

    monkeypatch.setattr(speed_module, "version", missing)

    with pytest.raises(ModelError, match=r"^render.compile: Triton is not installed"):
        find_compiler(torch.device("cuda"))


def test_a_compiled_model_draws_what_the_plain_one_draws(compiled, load_with, small):
    rows = mixed_rows(7)
    plain = pictures(load_with(Speed(), small, "").render(rows))

    fast = neighbours_change_nothing(compiled, rows)

    for index, pixels in plain.items():
        assert np.abs(pixels.astype(int) - fast[index].astype(int)).max() <= 1


def test_what_compiled_is_part_of_where_pixels_come_from(compiled):
    assert "compiled by" in compiled.env.kernels


def test_a_shape_is_compiled_before_the_first_row_and_never_again(compiled):
    from torch._dynamo.utils import counters

    counters.clear()
    drawn = pictures(compiled.render(mixed_rows(4)))

    assert len(drawn) == 4
    assert counters["stats"]["unique_graphs"] == 0


def test_a_known_shape_that_would_be_compiled_again_ends_the_run(compiled):
    _, unet, _ = compiled.rooms
    strange = (6, 4, 8, 8)
    embeds = compiled.text_encoder.encode([""])[0].embeds.expand(6, -1, -1)
    unet.passes._known.add((*strange, embeds.shape[1]))  # as if its kernels had been thrown away

    latents, times = torch.zeros(strange), torch.zeros(6)

    with torch.inference_mode(), pytest.raises(RenderError, match=r"render\.compile"):
        unet.predict(LaneInputs(latents, times, embeds))


def test_trials_of_other_shapes_compile_nothing(compiled):
    from torch._dynamo.utils import counters

    _, unet, _ = compiled.rooms
    embeds = compiled.text_encoder.encode([""])[0].embeds
    counters.clear()
    with unet.passes.eager(), torch.inference_mode():
        unet.predict(LaneInputs(torch.zeros(3, 4, 8, 8), torch.zeros(3), embeds.expand(3, -1, -1)))

    assert counters["stats"]["unique_graphs"] == 0
    assert not any(shape[0] == 3 for shape in unet.passes._known)


def test_a_compiled_run_ends_in_a_dataset_that_says_so(small, tmp_path):
    options = {"model": str(small), "engine": "inline", "size": "32x32", "batch_size": 4}
    summary = api.render(
        [{"prompt": "a red circle", "seed": i} for i in range(5)],
        tmp_path / "out",
        compile=True,
        num_inference_steps=2,
        **options,
    )

    table = api.open_dataset(tmp_path / "out").to_table(["render_env"])
    assert summary.exit_code == 0
    assert all("compiled by" in text.as_py() for text in table["render_env"])


def test_a_model_without_repeated_blocks_cannot_be_compiled(load_with, shapes, monkeypatch):
    monkeypatch.setattr(diffusers.UNet2DConditionModel, "_repeated_blocks", [])

    with pytest.raises(ModelError, match=r"render\.compile: .* no blocks of UNet2DConditionModel"):
        load_with(Speed(compile=True))


def test_switches_of_the_spec_have_the_names_of_the_job():
    from sdbatch.job import KEYS

    assert {f"render.{field.name}" for field in dataclasses.fields(Speed)} <= KEYS
