"""The weights of a run, brought to this machine before its workers start.

A plan needs configurations alone and says what a run would fetch. Where workers run on this
machine the driver fetches once for all of them; on a cluster each node does, once, and its
workers wait for one another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sdbatch.records import ModelFacts
from sdbatch.render.weights.fetched_model import Need
from sdbatch.render.weights.fetching import Watch, as_bytes, free_bytes
from sdbatch.render.weights.hub_cache import cache_home
from sdbatch.render.weights.model_facts import find_model

if TYPE_CHECKING:  # a worker fetches too, and needs nothing of a plan's making
    from sdbatch.engine.prepare import Prepared


@dataclass(frozen=True, slots=True)
class Fetching:
    """How far a fetch has come.

    Attributes:
        model: What is fetched.
        done_bytes, total_bytes: What is here, and all there will be.
    """

    model: str
    done_bytes: int
    total_bytes: int


class Shown(Protocol):
    """Where a fetch is told in lines."""

    def note(self, line: str) -> None:
        """Show one line."""


@runtime_checkable
class ShowsFetch(Protocol):
    """A reporter that shows how a fetch goes; others get lines before and after it."""

    def fetching(self, fetching: Fetching) -> None:
        """Show it; called several times a second, at the end with everything done."""


def fetch_notes(model: ModelFacts, each_node: bool = False) -> tuple[str, ...]:
    """What a run would have to fetch first; empty when all of it is here.

    Args:
        model: The model as far as this machine has it.
        each_node: Workers run elsewhere.
    """
    if not model.missing_bytes:
        return ()
    size = as_bytes(model.missing_bytes)
    if each_node:
        return (f"model {model.name}: each node fetches {size} once, unless it is there",)
    free = free_bytes(cache_home())
    room = "" if free is None else f", {as_bytes(free)} free there"
    return (f"model {model.name}: {size} to fetch into {cache_home()}{room}",)


def with_weights(prepared: Prepared, report: Shown, each_node: bool = False) -> Prepared:
    """The same run with its weights on this machine.

    Args:
        prepared: The run.
        report: Told how it goes.
        each_node: Workers run elsewhere, and their nodes fetch: it is only said.

    Raises:
        ModelError: They cannot be had.
    """
    if not prepared.model.missing_bytes:
        return prepared
    for line in fetch_notes(prepared.model, each_node):
        report.note(line)
    if each_node:
        return prepared
    need = Need(
        revision=prepared.model.revision,
        storage=prepared.storage,
        models_dir=prepared.asked.value("models_dir"),
    )
    model = bring(prepared.model.name, need, report)
    return replace(prepared, model=model, render=replace(prepared.render, model_path=model.path))


def bring(name: str, need: Need, report: Shown) -> ModelFacts:
    """Fetch a model with everybody told.

    Args:
        name: What is fetched.
        need: Which revision, and how much.
        report: A reporter.

    Raises:
        ModelError: It cannot be had.
    """
    started, fetched = time.monotonic(), 0

    def progress(done: int, total: int) -> None:
        nonlocal fetched
        fetched = total
        if isinstance(report, ShowsFetch):
            report.fetching(Fetching(name, done, total))

    def waiting() -> None:
        report.note(f"model {name}: another process of this machine fetches it, waiting for it")

    model = find_model(name, replace(need, watch=Watch(progress, waiting)))
    if fetched:
        seconds = time.monotonic() - started
        report.note(f"model {name}: {as_bytes(fetched)} here after {seconds:.0f} s")
    return model
