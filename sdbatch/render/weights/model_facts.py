"""What a plan must know of a model, read from its files without torch.

A name is the embedded model, a local diffusers folder or checkpoint in one file, a `fake`
one, or an id on the Hub. Whatever cannot be drawn with is refused here, before anything
starts: this room is asked by `plan` and by the driver, on machines that need no GPU and no
torch.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.records import ModelFacts, RowDefaults
from sdbatch.render.fake import FAKE_PREFIX, fake_options
from sdbatch.render.families.known import KNOWN
from sdbatch.render.families.known_models import SHORT, PublishedModel
from sdbatch.render.weights.fetched_model import Need, fetched_facts, fetched_file
from sdbatch.render.weights.folder_facts import read_json
from sdbatch.render.weights.local_model import local_model, near_hint
from sdbatch.render.weights.single_file import model_facts_at, model_folder

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
WHOLE = Need()
"""All of a model, as its name stands for it."""


def find_model(name: str, need: Need = WHOLE) -> ModelFacts:
    """Find a model by name and read what a plan needs.

    Args:
        name: `shapes`, a folder, a checkpoint's file, `fake[:key=value,...]`, the short name of a
            published model (`families/known_models.py`), `org/name[@revision]` on the Hub, or
            the URL of a folder in a bucket.
        need: How much of it is needed, which revision, and where bare names are looked up.

    Raises:
        ModelError: It is not there, or this version cannot draw with it.
    """
    if name == "fake" or name.startswith(FAKE_PREFIX):
        return _fake_facts(name)
    place = local_model(name, need.models_dir)
    if place is not None:
        return model_facts_at(name, place)
    if name in SHORT:
        return _published(SHORT[name], need)
    file = fetched_file(name, need)
    if file is not None:
        return model_facts_at(*file)
    fetched = fetched_facts(name, need)
    if fetched is not None:
        return fetched
    near = difflib.get_close_matches(name, [*KNOWN, *SHORT, "fake"], n=1, cutoff=0.4)
    hint = near_hint(name, need.models_dir) or (f", did you mean '{near[0]}'?" if near else "")
    raise ModelError(
        f"model '{name}' is neither known nor a diffusers folder{hint or ':'} "
        f"use {', '.join([*KNOWN, *SHORT])}, a folder, a .safetensors file, or org/name on the Hub"
    )


def _published(known: PublishedModel, need: Need) -> ModelFacts:
    """A published model under its id on the Hub: what is recorded names it for everyone."""
    try:
        return find_model(f"{known.repo}/{known.file}" if known.file else known.repo, need)
    except ModelError as error:
        raise type(error)(f"{known.short}: {error}") from error


def scheduler_config(model: ModelFacts) -> Mapping[str, Any]:
    """The model's own scheduler configuration; empty for a fake one.

    Raises:
        ModelError: It cannot be read.
    """
    if model.path.startswith(FAKE_PREFIX):
        return {}
    with model_folder(model.path, model.name) as folder:
        return read_json(model.name, folder / "scheduler/scheduler_config.json")


def _fake_facts(name: str) -> ModelFacts:
    options = fake_options(name)
    defaults = RowDefaults("", 64, 64, 4, 3.0, "DDIMScheduler", "", 1)
    return ModelFacts(
        name=name,
        path=name if name.startswith(FAKE_PREFIX) else FAKE_PREFIX,
        revision=hashlib.sha256(f"fake {options.fail}".encode()).hexdigest(),
        pipeline_class="FakePipeline",
        defaults=defaults,
        sources=dict.fromkeys(RowDefaults.__slots__, "model fake"),
        size_multiple_px=8,
        num_train_timesteps=1000,
        size_bytes=0,
        words=frozenset(),
    )
