"""The embedded model, loaded once."""

from __future__ import annotations

import pytest

from sdbatch.records import ModelFacts, RenderSpec
from sdbatch.render.loading import load_renderer
from sdbatch.render.model_facts import find_model
from sdbatch.render.renderer import LaneRenderer


@pytest.fixture(scope="session")
def shapes() -> ModelFacts:
    return find_model("shapes")


@pytest.fixture(scope="session")
def load(shapes):
    def load_with(**lanes: int) -> LaneRenderer:
        sizes = {name.lstrip("p"): count for name, count in lanes.items()}
        spec = RenderSpec("shapes", shapes.path, shapes.revision, "auto", sizes, 1)
        return load_renderer(spec, [])  # type: ignore[return-value]

    return load_with


@pytest.fixture(scope="session")
def renderer(load) -> LaneRenderer:
    return load(p32x32=4, p40x32=4, p64x64=4)
