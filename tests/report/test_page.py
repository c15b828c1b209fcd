"""The text of the page: nothing that a dataset says can become markup."""

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch import api
from sdbatch.report.page import safe_json
from tests.report.nasty import NASTY

VOID = {"meta", "input", "img", "rect", "line", "polygon", "polyline"}


class Parts(HTMLParser):
    """Tags, attributes, and what stands in scripts and styles."""

    def __init__(self):
        super().__init__()
        self.tags, self.scripts, self._inside = [], [], None

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)

    def handle_endtag(self, tag):
        self._inside = None


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_json_in_a_page_holds_no_markup_and_says_the_same(value):
    text = safe_json(value)

    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nasty")
    rows = [
        {"prompt": text, "style <i>": text[:20], "id": f"row {i}"} for i, text in enumerate(NASTY)
    ]
    options = {"engine": "inline", "size": "64x64", "allow_failed": "100%"}
    api.render(rows, folder / "<b>out", model="fake:fail=0.3", **options)
    api.report(folder / "<b>out", out=folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


def test_a_page_has_two_scripts_of_its_own_whatever_prompts_say(page):
    parts = Parts()
    parts.feed(page)
    tags = [tag for tag, _ in parts.tags]

    assert tags.count("script") == 2
    assert tags.count("style") == tags.count("h1") == tags.count("body") == 1
    assert not {"iframe", "img", "link", "object", "embed", "i"} & set(tags)
    assert [card[2] for card in json.loads(parts.scripts[0])["cards"]] == list(NASTY)


def test_no_attribute_names_a_place_outside_the_page_or_runs_anything(page):
    parts = Parts()
    parts.feed(page)
    for tag, attributes in parts.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
            if name in ("src", "href", "action", "data", "srcset"):
                assert value.startswith("#"), (tag, name, value)


def test_the_policy_allows_pictures_in_the_page_and_nothing_else(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#39;", "'").split(";"))

    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["script-src"].startswith("'sha256-")
    assert "unsafe" not in policy
    assert "connect-src" not in rules


def test_failures_are_grouped_with_examples_and_the_way_on(page):
    text = re.sub(r"<[^>]+>", " ", page[page.index('id="failures"') : page.index('id="time"')])

    assert "FakeError" in text
    assert "this row was chosen to fail" in text
    assert "sdbatch retry" in text
