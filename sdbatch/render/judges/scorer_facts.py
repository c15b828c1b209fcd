"""What a plan must know of the models that judge pictures, read from their files without torch.

A scorer is named `NAME=MODEL`: its numbers stand in the column `NAME_score`. What kind it is
its folder says: CLIP or SigLIP as `transformers` saves them, a CLIP with an aesthetic head
beside it, or, for `--safety`, diffusers' StableDiffusionSafetyChecker. `fake` scores without
weights, for trying things out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdbatch.errors import JobError, ModelError
from sdbatch.model_specs import ScorerSpec
from sdbatch.render.fake import FAKE_PREFIX
from sdbatch.render.weights.hub import scorer_snapshot
from sdbatch.render.weights.model_facts import HUB_ID
from sdbatch.render.weights.model_revision import file_digest

SAFETY = "safety"
CLIP, SIGLIP, AESTHETIC, FAKE = "clip", "siglip", "aesthetic", "fake"
CHECKER_CLASS = "StableDiffusionSafetyChecker"
HEADS = ("aesthetic.safetensors", "aesthetic.pth", "*linearMSE.pth", "sa_0_4_*_linear.pth")
"""File of an aesthetic head beside its CLIP; the last two as LAION named theirs."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_READ = (".json", ".txt", ".model", ".safetensors", ".pth")
_ACCEPTED = "a CLIP or SigLIP folder of transformers, or a CLIP folder with aesthetic.safetensors"


def find_scorers(scores: Mapping[str, str], safety: str = "") -> tuple[ScorerSpec, ...]:
    """The scorers of a run, in the order of their names as given.

    Args:
        scores: Name to model.
        safety: Model of the safety checker; empty or `none` for none.

    Raises:
        JobError: A name cannot be the beginning of a column's name.
        ModelError: A model is not there, or is no scorer.
    """
    if SAFETY in scores:
        raise JobError(f"--score safety={scores[SAFETY]}: say --safety {scores[SAFETY]}")
    found = [find_scorer(name, model) for name, model in scores.items()]
    if safety and safety != "none":
        found.append(find_scorer(SAFETY, safety))
    return tuple(found)


def find_scorer(name: str, model: str) -> ScorerSpec:
    """One scorer; `safety` names the checker.

    Raises:
        JobError: The name cannot be the beginning of a column's name.
        ModelError: The model is not there, or is no scorer.
    """
    if not _NAME.fullmatch(name):
        raise JobError(f"--score {name}: a name is up to 40 of a-z, 0-9 and _, such as clip")
    if model == FAKE or model.startswith(FAKE_PREFIX):
        path = model if model.startswith(FAKE_PREFIX) else FAKE_PREFIX
        return ScorerSpec(name, FAKE, model, path, hashlib.sha256(path.encode()).hexdigest())
    folder, revision = _folder(name, model)
    return ScorerSpec(name, _kind(name, model, folder), model, str(folder), revision)


def score_columns(scorers: Iterable[ScorerSpec]) -> tuple[str, ...]:
    """Columns of all scorers."""
    return tuple(column for scorer in scorers for column in scorer.columns)


def planned_scorer(spec: ScorerSpec) -> ScorerSpec:
    """A planned scorer where this machine has it.

    Raises:
        ModelError: It is not here, or another revision of it is.
    """
    if spec.kind == FAKE:
        return spec
    there = Path(spec.path)
    if there.is_dir() and revision_of(there, spec.model) == spec.revision:
        return spec
    found = find_scorer(spec.name, spec.model)
    if found.revision != spec.revision:
        raise ModelError(
            f"{_asked(spec.name, spec.model)}: is revision {found.revision[:12]}, the plan was "
            f"made with {spec.revision[:12]}: use the same weights on every machine"
        )
    return replace(found, kind=spec.kind)


def revision_of(folder: Path, model: str) -> str:
    """Commit of a folder in the Hub's cache, else a hash over the files that are read.

    Raises:
        ModelError: A file cannot be read.
    """
    if folder.parent.name == "snapshots":
        return folder.name
    total = hashlib.sha256()
    try:
        for path in sorted(each for each in folder.rglob("*") if each.suffix in _READ):
            size = path.stat().st_size
            total.update(f"{path.relative_to(folder).as_posix()}\n{size}\n".encode())
            total.update(file_digest(path, size))
    except OSError as error:
        raise ModelError(f"scorer {model}: {error}") from error
    return total.hexdigest()


def head_file(folder: Path) -> Path | None:
    """The aesthetic head of a folder."""
    return next((path for name in HEADS for path in sorted(folder.glob(name))), None)


def checker_folder(folder: Path) -> Path:
    """Where a checker's weights lie: in the folder, or in a pipeline's `safety_checker/`."""
    inner = folder / "safety_checker"
    return inner if (inner / "config.json").is_file() else folder


def _folder(name: str, model: str) -> tuple[Path, str]:
    home = os.environ.get("SDBATCH_MODELS")
    places = [Path(home) / model] if home else []
    places.append(Path(model).expanduser())
    for place in places:
        if place.is_dir():
            folder = place.resolve()
            return folder, revision_of(folder, model)
    if HUB_ID.fullmatch(model) and not model.startswith("."):
        folder = scorer_snapshot(model)
        return folder, folder.name
    raise ModelError(
        f"{_asked(name, model)}: there is no such folder, name one or an id on the Hub such as "
        "openai/clip-vit-base-patch32"
    )


def _kind(name: str, model: str, folder: Path) -> str:
    config = _config(name, model, checker_folder(folder) if name == SAFETY else folder)
    checks = CHECKER_CLASS in (config.get("architectures") or ())
    kind = {"siglip2": SIGLIP}.get(said := str(config.get("model_type")), said)
    if name == SAFETY:
        if not checks:
            raise ModelError(
                f"{_asked(name, model)}: is no {CHECKER_CLASS}, use a folder of one or "
                "CompVis/stable-diffusion-safety-checker"
            )
        return SAFETY
    if checks:
        raise ModelError(f"{_asked(name, model)}: is a safety checker, use --safety {model}")
    if head_file(folder) is not None and kind == CLIP:
        return AESTHETIC
    if kind not in (CLIP, SIGLIP):
        raise ModelError(f"{_asked(name, model)}: its model_type is '{said}', use {_ACCEPTED}")
    return kind


def _config(name: str, model: str, folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        said = f"{_asked(name, model)}: the folder has no config.json, use {_ACCEPTED}"
        raise ModelError(said) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{_asked(name, model)}: config.json cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{_asked(name, model)}: config.json holds no JSON object")
    return config


def _asked(name: str, model: str) -> str:
    return f"--safety {model}" if name == SAFETY else f"--score {name}={model}"
