"""Settings of image files: each format's own, defaults filled in, misfits refused."""

import pytest

from sdbatch.errors import JobError
from sdbatch.job import ask
from sdbatch.output_specs import ImageSpec
from sdbatch.plan.fingerprint import plan_id
from sdbatch.plan.image_settings import image_spec, with_images
from sdbatch.plan.settings import Resolved, Setting

KEYS = ("format", "quality", "lossless", "chroma", "png_level", "png_strategy", "save_size")
FLAG = "--flag"


def settled(standing=None, fast_png=True, **said):
    asked = ask([(FLAG, {f"image.{name}": value for name, value in said.items()})])
    keys = [f"image.{name}" for name in KEYS] + ["image.metadata"]
    settings = {key: Setting(asked.value(key), asked.sources.get(key, "default")) for key in keys}
    explicit = frozenset(key for key in asked.sources if asked.value(key) != "auto")
    return with_images(Resolved(settings, explicit), standing or {}, fast_png)


def spec(**said):
    return image_spec(settled(**said).values())


def test_each_format_fills_in_its_own_defaults():
    fast = {"png_level": "fast", "metadata": "infotext"}

    assert spec() == ImageSpec("png", **fast)
    assert spec(format="jpeg") == ImageSpec("jpeg", quality=90, chroma="420", **fast)
    assert spec(format="webp") == ImageSpec("webp", quality=90, chroma="420", **fast)
    assert spec(format="webp", lossless=True) == ImageSpec("webp", lossless=True, **fast)
    assert spec(format="avif", chroma=444) == ImageSpec("avif", quality=75, chroma="444", **fast)
    assert spec(format="jxl", quality=70) == ImageSpec("jxl", quality=70, **fast)
    assert spec(save_size="0256X192").save_size == "256x192"
    assert spec(format="png", lossless=True).keeps_pixels


def test_how_png_is_written_is_settled_by_the_plan():
    assert (spec().png_level, spec(fast_png=False).png_level) == ("fast", 1)
    assert (spec(png_level=9).png_level, spec(png_level=9).png_strategy) == (9, 0)
    assert (spec(png_level=1).png_strategy, spec(png_level=1, png_strategy=2).png_strategy) == (
        3,
        2,
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"format": "bmp"}, "image.format: input should be 'png', 'jpeg', 'webp', 'avif' or 'jxl'"),
        ({"format": "jpeg", "quality": 0}, "image.quality: input should be greater than or equal"),
        ({"format": "jpeg", "quality": 101}, "image.quality: input should be less than or equal"),
        ({"quality": 80}, "image.quality: 80: png keeps every pixel, choose jpeg, webp, avif or"),
        ({"format": "jxl", "quality": 100}, "jxl goes from 1 to 99, or choose --lossless"),
        ({"chroma": "444"}, "image.chroma: 444: png keeps every pixel and thins no colour out, ch"),
        ({"format": "webp", "chroma": "444"}, "image.chroma: 444: webp has 420 alone, choose jpeg"),
        ({"format": "jpeg", "chroma": 411}, "image.chroma: input should be '420', '422' or '444'"),
        (
            {"format": "jpeg", "lossless": True},
            "image.lossless: True: jpeg cannot keep every pixel",
        ),
        ({"format": "avif", "lossless": True}, "avif cannot keep every pixel, choose webp, jxl or"),
        ({"format": "webp", "lossless": True, "quality": 9}, "a lossless file has no quality"),
        ({"format": "webp", "lossless": True, "chroma": 420}, "a lossless file keeps all colour"),
        ({"format": "jpeg", "png_level": 6}, "image.png_level: 6: is for png alone, jpeg has no"),
        ({"save_size": "256"}, "image.save_size: value error, write WIDTHxHEIGHT up to 16383"),
        ({"save_size": "0x9"}, "image.save_size: value error, write WIDTHxHEIGHT up to 16383"),
        ({"save_size": "99999x9"}, "image.save_size: value error, write WIDTHxHEIGHT up to"),
    ],
)
def test_what_a_format_does_not_have_is_refused(said, message):
    with pytest.raises(JobError) as refused:
        settled(**said)

    assert str(refused.value).startswith(f"{FLAG}: image.")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_plan_that_stands_is_what_new_words_are_judged_by():
    jpeg = settled(format="jpeg").values()

    again = settled(standing=jpeg, quality=80)
    assert (again.value("image.quality"), again.value("image.chroma")) == (80, "420")
    with pytest.raises(JobError, match="jpeg cannot keep every pixel"):
        settled(standing=jpeg, lossless=True)
    kept = settled(standing=settled(png_level=7).values(), fast_png=False)
    assert (kept.value("image.png_level"), kept.value("image.png_strategy")) == (7, 0)


def test_plans_from_before_keep_their_fingerprint():
    before = {"image.format": "png", "image.png_level": 1, "image.png_strategy": 3, "seed": 1}
    now = {
        **before,
        "image.quality": None,
        "image.lossless": False,
        "image.chroma": None,
        "image.save_size": None,
        "caption_column": "",
    }

    assert plan_id(now) == plan_id(before)
    assert plan_id({**now, "image.quality": 80}) != plan_id(before)
    assert image_spec(before) == ImageSpec()
