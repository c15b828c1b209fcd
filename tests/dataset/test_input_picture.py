"""Strangers' pictures: the header decides, and nothing but one kind of error comes out."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdbatch.dataset.input_picture import PictureFacts, check_picture, decode_picture
from sdbatch.errors import InputPictureError

PIXELS = np.random.default_rng(3).integers(0, 256, (24, 40, 3), dtype=np.uint8)
FORMATS = {
    "png": {},
    "jpeg": {"quality": 95, "exif": Image.Exif()},
    "webp": {"lossless": True, "method": 0},
}


def picture(format="png", pixels=PIXELS, **options):
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format, **options)
    return sink.getvalue()


ALL = {name: picture(name, **options) for name, options in FORMATS.items()}
ALL["webp-lossy"] = picture("webp")
ALL["webp-extended"] = picture("webp", lossless=True, xmp=b"<x/>")
ALL["jpeg-progressive"] = picture("jpeg", progressive=True)


def png(width, height, *chunks):
    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*one) for one in ((b"IHDR", header), *chunks, (b"IEND", b""))
    )


@pytest.mark.parametrize("name", ALL)
def test_the_header_tells_format_and_size(name):
    assert check_picture(ALL[name]) == PictureFacts(name.partition("-")[0], 40, 24)


@pytest.mark.parametrize("name", ["png", "webp"])
def test_a_lossless_picture_comes_back_pixel_by_pixel(name):
    assert np.array_equal(decode_picture(ALL[name]), PIXELS)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_whatever_kind_of_pixels_it_has_rgb_comes_out(mode):
    sink = io.BytesIO()
    Image.fromarray(PIXELS[..., 0]).convert(mode).save(sink, "png")

    assert decode_picture(sink.getvalue()).shape == (24, 40, 3)
    assert decode_picture(sink.getvalue(), mode="L").shape == (24, 40)


def test_sixteen_bits_are_halved_and_not_clipped():
    deep = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 68
    sink = io.BytesIO()
    Image.fromarray(deep).save(sink, "png")

    assert np.array_equal(decode_picture(sink.getvalue(), mode="L"), deep >> 8)


def test_a_picture_that_lies_on_its_side_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = picture("jpeg", exif=exif)

    assert check_picture(data)[1:] == (40, 24)
    assert decode_picture(data).shape == (40, 24, 3)


def test_a_bomb_is_refused_by_its_header_without_taking_memory():
    rows = zlib.compress(b"\0" * 1_000_000, 9)
    bombs = [
        png(50_000, 50_000, (b"IDAT", rows)),
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0" + bytes(40),
        b"RIFF\0\0\0\0WEBPVP8L\x20\0\0\0\x2f\xff\xff\xff\x0f" + bytes(40),
        b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03" + bytes(40),
    ]
    tracemalloc.start()
    for bomb in bombs:
        with pytest.raises(InputPictureError, match="at most 67,108,864 are allowed"):
            decode_picture(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1_000_000


def test_the_cap_on_pixels_is_exact():
    assert check_picture(ALL["png"], max_pixels=40 * 24)
    with pytest.raises(InputPictureError, match="40x24 pixels, at most 959 are allowed"):
        check_picture(ALL["png"], "a.png", max_pixels=40 * 24 - 1)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_an_animation_is_refused(format):
    sink = io.BytesIO()
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(sink, format, save_all=True, append_images=frames[1:])

    with pytest.raises(InputPictureError, match="is animated"):
        check_picture(sink.getvalue())


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a" + bytes(50), b"<svg/>", b"%PDF-1.7", b"II*\0" + bytes(50), picture("bmp")],
)
def test_other_formats_are_refused(data):
    with pytest.raises(InputPictureError, match="neither PNG, JPEG nor WebP"):
        check_picture(data)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_truncated_picture_is_refused_in_one_line(name, share):
    data = ALL[name][: int(len(ALL[name]) * share)]

    with pytest.raises(InputPictureError) as caught:
        decode_picture(data, "s3://bucket/half.png")
    assert str(caught.value).startswith("'s3://bucket/half.png': ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_a_picture_without_pixels_is_refused(size):
    with pytest.raises(InputPictureError, match="claims to have"):
        check_picture(png(*size))


def test_a_text_that_unpacks_to_gigabytes_is_refused():
    text = b"key\0\0" + zlib.compress(b"x" * 80_000_000, 9)

    with pytest.raises(InputPictureError):
        decode_picture(png(40, 24, (b"zTXt", text), (b"IDAT", zlib.compress(b"\0" * 121 * 24))))


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(ALL)),
    place=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 40),
    instead=st.binary(max_size=24),
)
def test_damage_gives_pixels_or_one_kind_of_error(name, place, cut, instead):
    data = ALL[name]
    start = int(place * len(data))
    said, shape = "", (1, 1, 3)
    try:
        shape = decode_picture(data[:start] + instead + data[start + cut :], max_pixels=9999).shape
    except InputPictureError as error:
        said = str(error)

    assert "\n" not in said
    assert shape[2:] == (3,)
