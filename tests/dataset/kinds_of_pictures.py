"""Pictures of known statistics, made here: like photographs, and like flat art."""

import numpy as np
from PIL import Image, ImageDraw


def spectrum(side, beta, seed=0):
    """Noise whose amplitude falls with frequency as f**-beta, coloured, as in photographs.

    Natural pictures lie near 1 (Field, Relations between the statistics of natural images and
    the response properties of cortical cells, J. Opt. Soc. Am. A 4, 1987); blurred ones above.
    """
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    waves = []
    for _ in range(4):
        phases = np.exp(2j * np.pi * rng.random((side, side)))
        wave = np.fft.ifft2(phases / frequency**beta).real
        waves.append(wave / wave.std())
    channels = np.stack([0.8 * waves[3] + 0.4 * wave for wave in waves[:3]], -1)
    return np.clip(128 + 60 * channels, 0, 255).astype(np.uint8)


def lit(side, noise=1.0):
    """Smooth light, an edge and sensor noise."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:side, 0:side] / side
    light = 110 + 60 * np.sin(3 * x + 2 * y)[..., None] * [1.0, 0.8, 0.6]
    disc = ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.08)[..., None] * [40, -20, 10]
    noisy = light + disc + rng.normal(0, noise, (side, side, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def enlarged(side):
    """A small picture made large, as an upscaler or a decoder makes it."""
    small = Image.fromarray(spectrum(side // 8, 1.2, seed=5))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def drawing(side):
    """Discs and lines of text on white."""
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for index in range(side // 25):
        draw.text((10, 25 * index), f"line {index} of a page with {index * index} words", "navy")
        box = (side // 2 + index, 20 * index, side // 2 + 90 + 3 * index, 20 * index + 60)
        draw.ellipse(box, fill=(index * 6 % 255, 200 - index % 200, index * 3 % 255))
    return np.asarray(image)


def blocks(side):
    """Squares of one colour each."""
    colours = np.random.default_rng(2).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(colours).resize((side, side), Image.Resampling.NEAREST))


def gradient(side):
    """Two ramps, without noise."""
    y, x = np.mgrid[0:side, 0:side] / side
    return np.stack([x * 255, y * 255, (x + y) * 127], -1).astype(np.uint8)


def blank(side):
    """Grey."""
    return np.full((side, side, 3), 90, np.uint8)


PHOTO_LIKE = {
    "texture f^-1.0": lambda side: spectrum(side, 1.0),
    "texture f^-1.25": lambda side: spectrum(side, 1.25),
    "texture f^-1.5": lambda side: spectrum(side, 1.5),
    "soft f^-2.0": lambda side: spectrum(side, 2.0),
    "lit, noise 1": lit,
    "lit, noise 4": lambda side: lit(side, 4.0),
    "enlarged 8x": enlarged,
}
FLAT_ART = {"drawing": drawing, "blocks": blocks, "gradient": gradient, "blank": blank}
KINDS = {**PHOTO_LIKE, **FLAT_ART}
"""Name to what makes such a picture of a given side."""
