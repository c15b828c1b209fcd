"""The page in a real browser: it works by keyboard, shows text as text and loads nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from sdbatch import api
from tests.report.chromium import Browser, chromium
from tests.report.nasty import NASTY

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="chromium is not installed"),
]

SHOTS = Path(os.environ.get("SDBATCH_SHOTS", ""))
"""Where screenshots are kept; beside the page when nobody names a place."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report over 60 pictures: nasty prompts, failures, several schedulers."""
    folder = tmp_path_factory.mktemp("page")
    rows = [
        {
            "prompt": NASTY[i] if i < len(NASTY) else f"a small red circle, number {i}",
            "scheduler": ("DDIMScheduler", "EulerDiscreteScheduler")[i % 2],
            "guidance_scale": (1.0, 4.0, 7.5)[i % 3],
            "weight": i / 7,
        }
        for i in range(60)
    ]
    options = {"engine": "inline", "size": "64x64", "shard_size": 20, "allow_failed": "100%"}
    api.render(rows, folder / "out", model="fake:fail=0.1", **options)
    api.report(folder / "out", out=folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with Browser() as made:
        yield made


@pytest.fixture
def tab(browser, page):
    browser.events.clear()
    browser.screen(1280, 900)
    browser.open(page)
    return browser


COUNT = "document.getElementById('count').textContent"
CARDS = "document.querySelectorAll('.card').length"


def test_a_search_narrows_the_gallery_and_says_so(tab):
    assert tab.run(COUNT) == "60 pictures"
    tab.run("document.getElementById('search').focus()")
    tab.type("number 17")

    assert tab.run(COUNT) == "1 of 60 pictures"
    assert tab.run(CARDS) == 1
    assert tab.run("document.querySelector('.caption').textContent").endswith("number 17")


def test_filters_and_ranges_work_together_and_are_cleared(tab):
    def choose(label, option):
        tab.run(
            "(() => { const field = [...document.querySelectorAll('label')]"
            f".find((one) => one.textContent.startsWith('{label}')).querySelector('select');"
            f" field.value = [...field.options].find((one) => one.text === '{option}').value;"
            " field.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    choose("scheduler", "DDIMScheduler")
    assert tab.run(COUNT) == "30 of 60 pictures"
    tab.run(
        "(() => { const field = document.querySelector('[aria-label=\"weight at least\"]');"
        " field.value = '7'; field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    assert tab.run(COUNT) == "5 of 60 pictures"  # rows 50, 52, 54, 56, 58
    tab.run("document.getElementById('reset').click()")
    tab.until(COUNT, "60 pictures")


def test_a_picture_opens_and_turns_by_keyboard(tab):
    tab.run("document.querySelector('.card').focus()")
    tab.press("Enter")
    assert tab.run("document.getElementById('picture').open")
    first = tab.run("document.getElementById('picture-key').textContent")
    tab.press("ArrowRight")
    second = tab.run("document.getElementById('picture-key').textContent")
    assert (first, second) == ("000000000_000", "000000001_000")
    assert "EulerDiscreteScheduler" in tab.run(
        "document.getElementById('picture-facts').textContent"
    )
    tab.press("Escape")
    assert not tab.run("document.getElementById('picture').open")
    tab.until("document.activeElement === document.querySelectorAll('.card')[1]")


def test_nasty_prompts_show_as_they_were_written(tab):
    shown = tab.run("data.cards.map((card) => card[PROMPT])")
    for prompt in NASTY:
        assert prompt in shown
    tab.run("document.querySelector('.card').click()")
    assert tab.run("document.getElementById('picture-prompt').textContent") == NASTY[0]
    assert tab.run("window.attacked") is None
    assert (
        tab.run(
            "document.querySelectorAll('.card script, .card iframe, dialog img[onerror]').length"
        )
        == 0
    )


def test_the_page_asks_nobody_for_anything_and_its_policy_forbids_it(tab, page):
    tab.run("document.getElementById('show-more').click()")
    tab.run("document.querySelector('.card').click()")
    left = [url for url in tab.requests if url != page.as_uri() and not url.startswith("data:")]
    assert left == []
    assert tab.complaints == []

    tab.run("new Image().src = 'http://127.0.0.1:9/x.png'")
    tab.run("fetch('http://127.0.0.1:9/').catch(() => { window.refused = true; })")
    tab.until("window.refused")
    assert sum("Content Security Policy" in line for line in tab.complaints) >= 2


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_screenshot_is_kept_and_nothing_hangs_over_the_edge(tab, page, width, dark):
    tab.screen(width, 1400, dark)
    tab.open(page)
    folder = SHOTS if SHOTS.name else page.parent
    shot = tab.shoot(folder / f"report-{width}-{'dark' if dark else 'light'}.png")

    with Image.open(shot) as picture:
        assert picture.size == (width, 1400)
        corner = picture.convert("L").getpixel((5, 1000))
    assert corner < 60 if dark else corner > 200
    assert tab.run("document.documentElement.scrollWidth <= window.innerWidth")
