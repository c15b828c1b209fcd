"""A model, a manifest and a job in a few words."""

import pytest

from sdbatch.job import ask
from sdbatch.plan.settings import resolve
from sdbatch.records import ManifestFile, ManifestRef, ModelFacts, RowDefaults


@pytest.fixture
def defaults():
    return RowDefaults("", 64, 64, 20, 5.0, "DDIMScheduler", "", 1)


@pytest.fixture
def model(defaults):
    return ModelFacts(
        name="shapes",
        path="/models/shapes",
        revision="ab12" * 16,
        pipeline_class="StableDiffusionPipeline",
        defaults=defaults,
        sources={"num_inference_steps": "model shapes, card"},
        size_multiple_px=8,
        num_train_timesteps=1000,
        size_bytes=10,
        words=frozenset(),
    )


@pytest.fixture
def ref():
    return ManifestRef("rows.parquet", (ManifestFile("/rows.parquet", 9, 99, "f"),), "cd34" * 16)


@pytest.fixture
def resolved(model, ref):
    """Resolve flags given as dotted keys."""

    def _resolved(*layers, model=model, ref=ref, **options):
        named = [("default", {})] if not layers else list(layers)
        return resolve(ask(named), model, ref, **options)

    return _resolved
