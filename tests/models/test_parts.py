"""Text encoder, VAE and UNet learn from a few steps, and never disturb what is frozen."""

import diffusers
import numpy as np
import pytest
import torch

from sdbatch.models import vae_part
from sdbatch.models.captions import full_caption, loose_caption
from sdbatch.models.denoiser_part import DenoiserPart, random_levels, training_caption
from sdbatch.models.draws import Draws
from sdbatch.models.noise import LEVELS, noised, signal_shares
from sdbatch.models.pool import BLOCK, encode, make_pool, open_pool
from sdbatch.models.prompts import Prompts
from sdbatch.models.text_part import TextPart, new_encoder
from sdbatch.models.tokens import make_tokenizer
from sdbatch.models.training import Training
from sdbatch.models.vae_part import DecoderPart, VaePart, psnr_db, whiten
from sdbatch.models.world import random_scenes

TINY_VAE = vae_part.SHAPE | {"block_out_channels": (4, 4, 8), "norm_num_groups": 4}
TINY_UNET = {
    "sample_size": 16, "in_channels": 4, "out_channels": 4, "norm_num_groups": 4,
    "cross_attention_dim": 128, "attention_head_dim": 2, "block_out_channels": (8, 8),
    "layers_per_block": 1, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def prompts():
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    return Prompts(tokenizer, new_encoder(tokenizer))


@pytest.fixture
def vae():
    return diffusers.AutoencoderKL(**TINY_VAE).eval()


def _learns(part, folder, steps=12):
    training = Training(part, folder)
    losses = [training._one_step(3e-3) for _ in range(steps)]
    return np.mean(losses[-3:]) < np.mean(losses[:3])


def test_the_text_encoder_learns_to_be_read(prompts, tmp_path):
    part = TextPart(prompts, 16)

    assert _learns(part, tmp_path)
    assert 0 <= part.measure()["worst"] <= part.measure()["mean"] <= 1


def test_the_vae_learns_pictures(vae, tmp_path):
    assert _learns(VaePart(vae, 4), tmp_path)


def test_training_the_decoder_leaves_the_latents_alone(vae, tmp_path):
    pictures = torch.rand(2, 3, 64, 64)
    before, drawn = encode(vae, pictures), psnr_db(vae)

    assert _learns(DecoderPart(vae, 4), tmp_path)
    vae.eval()
    assert torch.equal(encode(vae, pictures), before)
    assert psnr_db(vae) != drawn


def test_whitening_changes_latents_and_no_picture(vae):
    pictures = torch.rand(4, 3, 64, 64) * 2 - 1
    before = vae.decode(vae.encode(pictures).latent_dist.mean).sample

    whiten(vae)

    after = vae.decode(vae.encode(pictures).latent_dist.mean).sample
    assert torch.allclose(before, after, atol=1e-4)
    latents = encode(vae, vae_part._pictures(256, Draws(0, 0)) / 2 + 0.5)
    assert latents.mean((0, 2, 3)).abs().max() < 0.05
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.05


def test_a_pool_that_was_interrupted_is_finished_as_if_it_had_not_been(vae, tmp_path):
    make_pool(tmp_path / "half", 1, vae)
    grown = make_pool(tmp_path / "half", 2 * BLOCK, vae)
    whole = make_pool(tmp_path / "whole", BLOCK + 1, vae)

    assert len(grown) == len(whole) == 2 * BLOCK
    assert np.array_equal(grown.scenes, whole.scenes)
    assert np.array_equal(grown.latents, whole.latents)


def test_a_pool_outlives_a_trained_decoder_and_not_a_changed_encoder(vae, tmp_path):
    before = np.array(make_pool(tmp_path, 1, vae).latents)
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(2)
    written = (tmp_path / "latents.float16").stat().st_mtime_ns
    make_pool(tmp_path, 1, vae)
    assert (tmp_path / "latents.float16").stat().st_mtime_ns == written

    with torch.no_grad():
        vae.quant_conv.bias.add_(1)
    assert not np.array_equal(make_pool(tmp_path, 1, vae).latents, before)


def test_the_unet_learns_and_draws_the_same_batch_each_time(prompts, vae, tmp_path):
    make_pool(tmp_path, 1, vae)
    pool = open_pool(tmp_path)
    unet = diffusers.UNet2DConditionModel(**TINY_UNET)
    part = DenoiserPart(unet, prompts, pool, 8)

    assert torch.equal(part.loss(Draws(0, 3)), part.loss(Draws(0, 3)))
    assert part.loss(Draws(0, 3)) != part.loss(Draws(0, 4))
    assert _learns(part, tmp_path, steps=20)


def test_v_and_the_noised_latent_give_the_latent_back():
    latents, noise = torch.randn(5, 4, 8, 8), torch.randn(5, 4, 8, 8)
    share = signal_shares()[torch.tensor([0, 10, 300, 700, 999])]

    given, v = noised(latents, noise, share)

    signal, rest = share.sqrt()[:, None, None, None], (1 - share).sqrt()[:, None, None, None]
    assert torch.allclose(signal * given - rest * v, latents, atol=1e-4)


def test_every_noise_level_is_trained_and_the_middle_more():
    levels = random_levels(20_000, Draws(0, 0))

    assert levels.min() >= 0
    assert levels.max() == LEVELS - 1
    assert ((levels > 200) & (levels < 800)).float().mean() > 0.8


def test_some_captions_are_empty_and_most_are_not():
    draws = Draws(0, 0)
    scenes = random_scenes(500, draws.numpy).tolist()
    captions = [training_caption(scene, draws.words) for scene in scenes]

    assert 20 < captions.count("") < 90


def test_captions_differ_in_wording_for_one_scene():
    scene, draws = random_scenes(1, np.random.default_rng(0)).tolist()[0], Draws(0, 0)
    for say in (full_caption, loose_caption):
        assert len({say(scene, draws.words) for _ in range(50)}) > 20
