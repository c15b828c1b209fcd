"""An autoencoder that float16 is too narrow for never decodes in it."""

from dataclasses import replace

import diffusers
import pytest
import torch

from sdbatch.model_specs import RenderSpec
from sdbatch.render import diffusers_folder, half_probe
from sdbatch.render.families import sd
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.families.sd import SdVae
from sdbatch.render.loading import load_renderer
from sdbatch.render.vae import vae_range
from sdbatch.render.vae.vae_range import WideDecoder, has_bfloat16, with_range

CPU = torch.device("cpu")
LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def overflowing(force_upcast=True, factor=1e5):
    """A tiny VAE whose middle reaches numbers above 65,504, which norms bring back at once."""
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, latent_channels=4,
        force_upcast=force_upcast,
    )  # fmt: skip
    with torch.no_grad():
        vae.decoder.conv_in.weight *= factor
    return vae.requires_grad_(False).eval()


def rooms_of(vae):
    return Rooms(None, None, SdVae(vae), {"vae": vae})  # type: ignore[arg-type]


def test_the_tiny_vae_overflows_in_float16_and_nowhere_else():
    wide = rooms_of(overflowing()).latent_decoder.decode(LATENTS)
    narrow = rooms_of(overflowing().half()).latent_decoder.decode(LATENTS)

    assert wide.isfinite().all()
    assert not narrow.isfinite().all()


def test_it_decodes_in_float32_and_is_float16_again_afterwards():
    vae = overflowing().half()
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    rooms = with_range(rooms_of(vae), CPU)

    with torch.inference_mode():
        found = rooms.latent_decoder.decode(LATENTS)

    wanted = rooms_of(overflowing().half().float()).latent_decoder.decode(LATENTS)
    assert torch.equal(found, wanted)
    assert found.isfinite().all()
    assert vae.dtype == torch.float16
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())


def test_it_decodes_in_bfloat16_where_the_device_has_that(monkeypatch):
    monkeypatch.setattr(vae_range, "has_bfloat16", lambda device: True)
    vae = overflowing().half()

    rooms = with_range(rooms_of(vae), CPU)

    assert vae.dtype == torch.bfloat16
    assert rooms.latent_decoder.decode(LATENTS).isfinite().all()


@pytest.mark.parametrize(
    "vae", [overflowing(force_upcast=False).half(), overflowing().bfloat16(), overflowing()]
)
def test_who_needs_no_more_range_is_left_as_it_is(vae):
    rooms = rooms_of(vae)

    assert with_range(rooms, CPU) is rooms


def test_a_decode_that_fails_leaves_float16_weights():
    vae = overflowing().half()
    decoder = WideDecoder(SdVae(vae), vae)

    with pytest.raises(RuntimeError):
        decoder.decode(torch.zeros(1, 7, 8, 8))

    assert vae.dtype == torch.float16
    assert decoder.scale == 1


def test_a_cpu_computes_in_float32_rather_than_in_bfloat16():
    assert not has_bfloat16(CPU)


def test_decodes_in_another_number_type_are_told_with_what_a_picture_was_drawn_on(
    shapes, monkeypatch
):
    spec = RenderSpec("shapes", shapes.path, shapes.revision, "float16", {"32x32": 2}, 1)

    def kernels(dtype):
        return load_renderer(replace(spec, dtype=dtype), []).env.kernels

    assert "vae in" not in kernels("float32")
    assert "vae in" not in kernels("bfloat16")
    assert kernels("float16").endswith(", vae in float32")
    monkeypatch.setattr(vae_range, "has_bfloat16", lambda device: True)
    assert kernels("float16").endswith(", vae in bfloat16")


def test_a_vae_that_only_float16_spoils_spoils_no_half_model(shapes, monkeypatch):
    """The probe decodes as the run will, so that such a model stays in half precision."""
    monkeypatch.setattr(half_probe, "PROBED", frozenset({"cpu"}))
    loaded = sd.load

    def spoiled(*args):
        rooms = loaded(*args)
        rooms.vae.decoder.conv_in.weight.data.fill_(6e4)
        return rooms

    monkeypatch.setattr(sd, "load", spoiled)
    monkeypatch.setattr(diffusers_folder, "choose_dtype", lambda *_: "float16")
    spec = RenderSpec("shapes", shapes.path, shapes.revision, "auto", {"32x32": 2}, 1)

    assert load_renderer(spec, []).env.dtype == "float16"
